"""The statistics of a throughput: rates, ratios and their 95 % intervals, from step times.

A rate is items over time, never a mean of rates. Intervals are Student's on the logarithmic scale, from a
variance that allows for the autocorrelation of steps (`runtime.long_run`); tests/unit/runtime/
test_statistics_coverage.py measures that they hold the truth as often as they claim.
"""

import math
from collections.abc import Sequence

import numpy as np

from pipelines.errors import DataError
from runtime.interval import Interval, mapped, quotient, show, show_parts
from runtime.long_run import (
    LEVEL,
    Floats,
    Spread,
    TooFewSteps,
    count_cosines,
    durations,
    spread_of_mean,
    student,
)
from runtime.pairs import MIN_PAIRS, paired_ratio
from runtime.steadiness import Steadiness, steadiness
from runtime.step_times import Noise, Outliers, mean_of_rates, noise, percentiles, tukey_outliers

__all__ = [
    "MIN_PAIRS", "Interval", "Noise", "Outliers", "Steadiness", "TooFewSteps", "mapped", "mean_of_rates",
    "noise", "paired_ratio", "percentiles", "quotient", "rate", "ratio", "show", "show_parts", "steadiness",
    "tukey_outliers",
]  # fmt: skip


def rate(windows: Sequence[Sequence[float]], items_per_step: float, block: int) -> Interval:
    """Items per second over all windows: items / time.

    One window: the variance of its mean step is that of `long_run.spread_of_mean`. Several windows (rounds,
    fresh processes) may differ by more than their steps tell: where the variance between them is larger than
    the variance within, it takes its place, with one degree of freedom fewer than windows; else both estimate
    the same, and are pooled.

    Coverage of the 95 % interval in simulations, for AR(1) up to 0.7, log-normal times and the bursts of a
    queue: 92 to 98 % from 60 steps on, and for three or more windows of 100 steps. Two windows that do differ
    say little of it: 88 %. Changes slower than a window cannot be seen in one: that is what `steadiness` and
    more windows are for.

    Args:
        windows: The step times of each window, in seconds and in the order of the steps.
        items_per_step: Items of one step.
        block: Steps, at least twice the depth of the prefetch queue (batches that may be ready at once).

    Raises:
        TooFewSteps: a window of fewer than 10 steps or two blocks.
        DataError: step times that are negative, no numbers, or all zero.
    """
    found = _Windows(windows, block)
    return _interval(items_per_step / found.mean, found.spread())


def ratio(
    over: Sequence[Sequence[float]], under: Sequence[Sequence[float]], block: int, *, paired: bool = False
) -> Interval:
    """The ratio of two rates of equal items per step: 2 where ``over`` is twice as fast.

    Args, errors and intervals as for `rate`; independent variances add up, degrees of freedom by Welch and
    Satterthwaite. Where ``paired``, windows i of both sides were measured in the same round: what slows both
    down from round to round cancels, and only the ratio's own variance between rounds counts.

    Raises:
        DataError: ``paired`` windows that are not equally many.
    """
    first, second = _Windows(over, block), _Windows(under, block)
    value = second.mean / first.mean
    if not paired:
        return _interval(value, _sum([first.spread(), second.spread()]))
    if len(over) != len(under):
        raise DataError(f"{len(over)} windows and {len(under)} are no pairs: measure both in each round")
    within = _sum([first.within, second.within])
    return _interval(value, _with_between(within, first.deviations - second.deviations))


class _Windows:
    """Step times of one thing, and the spread of the logarithm of their mean."""

    def __init__(self, windows: Sequence[Sequence[float]], block: int) -> None:
        if len(windows) == 0:
            raise TooFewSteps("there is no timed window: raise --seconds or --benchmark_steps")
        series = [durations(window, block) for window in windows]
        total = sum(float(window.sum()) for window in series)
        self.mean = total / sum(map(len, series))
        self.within = _sum([_part(window, total, block) for window in series])
        self.deviations = np.array([window.sum() - self.mean * len(window) for window in series]) / total
        """What each window adds to the logarithm."""

    def spread(self) -> Spread:
        """Allowing for differences between the windows."""
        return _with_between(self.within, self.deviations)


def _with_between(within: Spread, deviations: Floats) -> Spread:
    """The spread by the steps within windows or by the windows' own deviations, see `rate`."""
    count = len(deviations)
    if count == 1:
        return within
    between = Spread(float(deviations @ deviations) * count / (count - 1), count - 1)
    if between.variance > within.variance:
        return between
    freedom = within.freedom + between.freedom
    pooled = within.variance * within.freedom + between.variance * between.freedom
    return Spread(pooled / freedom, freedom)


def _part(window: Floats, total: float, block: int) -> Spread:
    """What a window's mean adds to the spread of the logarithm of all windows' ``total`` time."""
    spread = spread_of_mean(window, count_cosines(window, block))
    return Spread(spread.variance * (len(window) / total) ** 2, spread.freedom)


def _sum(parts: Sequence[Spread]) -> Spread:
    """Of a sum of independent parts (Satterthwaite's degrees of freedom)."""
    variance = sum(part.variance for part in parts)
    squares = sum(part.variance**2 / part.freedom for part in parts)
    return Spread(variance, variance**2 / squares if squares else sum(part.freedom for part in parts))


def _interval(value: float, spread: Spread) -> Interval:
    factor = math.exp(student(LEVEL, spread.freedom) * math.sqrt(spread.variance))
    return Interval(value, value / factor, value * factor)
