"""The olympic mean of fewer runs than forty, with an interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchmark.mllog.score import DROPPED, RUNS
from runtime.interval import Interval
from runtime.long_run import LEVEL, student


class Trimmed(NamedTuple):
    """A mean without the ends."""

    mean: float
    interval: Interval | None
    """Around it; None where fewer than two runs are left."""
    dropped: int
    """At each end."""

    def shown(self, unit: str, digits: int) -> str:
        """With so many digits behind the point, and with its interval if there is one."""
        value = f"{self.mean:,.{digits}f} {unit}"
        if self.interval is None:
            return value
        return f"{value} [{self.interval.low:,.{digits}f}, {self.interval.high:,.{digits}f}]"


def trimmed_mean(values: Sequence[float], unconverged: int) -> Trimmed | None:
    """The mean without a tenth at each end, rounded down, as MLPerf leaves out 4 of 40.

    Runs that did not converge are the slowest; where more are than are left out, there is no mean: None. The
    interval holds the mean of many such runs. It is Tukey and McLaughlin's (Sankhya A 25, 1963): Student's t
    of one degree of freedom less than runs are counted, and the winsorized standard deviation.

    Args:
        values: Of the runs that converged.
        unconverged: How many did not.
    """
    count = len(values) + unconverged
    dropped = count * DROPPED // RUNS
    if not values or unconverged > dropped:
        return None
    ranked = sorted(values) + [math.inf] * unconverged
    kept = ranked[dropped : count - dropped]
    mean = math.fsum(kept) / len(kept)
    if len(kept) < 2:
        return Trimmed(mean, None, dropped)
    winsorized = [kept[0]] * dropped + kept + [kept[-1]] * dropped
    centre = math.fsum(winsorized) / count
    deviation = math.sqrt(math.fsum((value - centre) ** 2 for value in winsorized) / (count - 1))
    half = student(LEVEL, len(kept) - 1) * deviation * math.sqrt(count) / len(kept)
    return Trimmed(mean, Interval(mean, mean - half, mean + half), dropped)
