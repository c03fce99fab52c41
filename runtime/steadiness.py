"""Whether a timed window was steady: tests after the declared warm-up that mark a window and trim nothing."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from runtime.long_run import Floats, count_cosines, durations, spread_of_mean, student

LEVEL = 0.995
"""Quantile of the two-sided tests. Three tests at 1 % keep false alarms under 5 % together, also where
intervals are a little too narrow; 7 % in windows of 60 or 100 steps with an autocorrelation of 0.7."""
HALVES, DRIFT, START = 0.03, 0.05, 0.10
"""Least differences that count, as parts of the mean step: between the halves, over the whole window, and of
the first tenth from the rest. What is less moves the rate by 1 to 3 %, within the noise floor of a
comparison."""
PARTS = 10
"""Segments of a window, of which the first is looked at for the end of the warm-up."""


class Steadiness(NamedTuple):
    """Whether a window was steady and, where not, why not: a sentence's end for the reader."""

    steady: bool
    because: str


def steadiness(seconds: Sequence[float], block: int) -> Steadiness:
    """Compare the halves of a window, fit a trend, and look whether its first tenth is still warm-up.

    The halves' difference and the trend are least-squares fits; each counts where it exceeds its own 99 %
    interval, which allows for autocorrelation as `statistics.rate` does, and the least difference. A ramp at
    the start inflates that interval and hides in it, so that the first tenth is judged on its own, by the
    scatter that such segments have in the second half of the window. It is judged by ranks: one stalled step
    is no warm-up. Windows of fewer than five segments get no such judgement.

    Args:
        seconds: Step times in the order of the steps.
        block: Steps, at least twice the depth of the prefetch queue.

    Raises:
        TooFewSteps: as `statistics.rate` does.
    """
    steps = durations(seconds, block)
    return Steadiness(not (found := "; ".join(_findings(steps, block))), found)


def _findings(steps: Floats, block: int) -> Iterator[str]:
    n, mean = len(steps), float(steps.mean())
    change, margin = _fit(steps, (np.arange(n) >= n / 2).astype(np.float64), block)
    if abs(change) > max(margin, HALVES * mean):
        than = "longer" if change > 0 else "less"
        yield f"steps of the second half take {abs(change) / mean:.0%} {than} than those of the first"
    change, margin = _fit(steps, np.arange(n) / n, block)
    if abs(change) > max(margin, DRIFT * mean):
        yield f"step times drift by {change / mean:+.0%} over the window"
    excess = _excess_of_start(steps, block)
    if excess > START:
        yield f"the first tenth takes {excess:.0%} longer than the rest: warm up for longer"


def _fit(steps: Floats, regressor: Floats, block: int) -> tuple[float, float]:
    """The slope on ``regressor`` and the half width of its 99 % interval, in seconds."""
    centred = regressor - regressor.mean()
    power = float(centred @ centred)
    slope = float(centred @ steps) / power
    residuals = steps - steps.mean() - slope * centred
    spread = spread_of_mean(residuals * centred, count_cosines(residuals, block))
    return slope, student(LEVEL, spread.freedom) * float(np.sqrt(spread.variance)) * len(steps) / power


def _excess_of_start(steps: Floats, block: int) -> float:
    """By what part the first segment's mean exceeds the rest's; 0 where that may be the segments' scatter."""
    length = block * max(1, round(len(steps) / PARTS / block))
    count = len(steps) // length
    tail = count - count // 2
    if tail < 3:
        return 0.0
    segments = _ranks(steps)[: count * length].reshape(count, length).mean(1)
    late = segments[-tail:]
    scatter = float(late.std(ddof=1)) * (1 + 1 / tail) ** 0.5
    if segments[0] - late.mean() <= student(2 * LEVEL - 1, tail - 1) * scatter:
        return 0.0
    return float(steps[:length].mean() / steps[length:].mean()) - 1


def _ranks(steps: Floats) -> Floats:
    """Ranks from 1; equal steps share the middle of theirs."""
    _, inverse, counts = np.unique(steps, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((2 * last - counts + 1) / 2)[inverse]
