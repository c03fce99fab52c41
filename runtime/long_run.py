"""How far the mean of autocorrelated step times may be off.

A prefetch queue ties neighbouring steps together: a burst of fast ones and then a slow one, or slow ones in
a row. The mean of n steps then varies by more, or by less, than 1/n of a single step's variance. What counts
is the spectrum at frequency zero, and the lowest frequencies of the window tell it: the projections of the
series on its first cosines are nearly independent, each with the variance of sqrt(n) times the mean. Their
mean square over nu cosines gives an interval with Student's t of nu degrees of freedom (equal-weighted
cosines: Lazarus, Lewis, Stock & Watson, Journal of Business & Economic Statistics 36, 2018).

A block bootstrap estimates the same variance, but with few blocks its percentiles cover 82 to 93 % of
log-normal or autocorrelated steps where 95 are claimed, and scaled to size its intervals differ from these
only by the noise of resampling.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError

Floats = npt.NDArray[np.float64]

LEVEL = 0.975
"""The quantile that ends a two-sided 95 % interval."""
MIN_STEPS = 10
"""Steps below which a window has no interval. With ten it already has the t of two cosines, 4.3, and an
autocorrelation of 0.5 takes its coverage to 92 to 93 %; in fewer steps it would take more and not be seen."""
MIN_BLOCKS = 2
"""Blocks below which a window has no interval: nothing tells how two blocks differ where there is one."""
MAX_BIAS = 0.1
"""Part of the variance that a first-order autocorrelation may hide from the cosines that are used."""


class TooFewSteps(DataError):  # noqa: N818
    """A window is too short for an interval."""


class Spread(NamedTuple):
    """Of a mean: its variance, and the degrees of freedom that the variance was estimated with."""

    variance: float
    freedom: float


def durations(seconds: Sequence[float], block: int) -> Floats:
    """A window's step times as an array.

    Raises:
        TooFewSteps: fewer than `MIN_STEPS` steps or `MIN_BLOCKS` blocks.
        DataError: a time that is negative or no number; or nothing but zeros.
    """
    steps = np.asarray(seconds, dtype=np.float64)
    if not (np.isfinite(steps).all() and (steps >= 0).all()):
        raise DataError("a step time is negative or no number: the clock or the record is broken")
    needed = max(MIN_STEPS, MIN_BLOCKS * block)
    if len(steps) < needed:
        raise TooFewSteps(
            f"the timed window has {len(steps)} steps, and an interval needs {needed} (at least {MIN_STEPS}, "
            f"and {MIN_BLOCKS} blocks of {block}): raise --seconds or --benchmark_steps"
        )
    if steps.sum() == 0:
        raise DataError(
            f"the timed window of {len(steps)} steps is shorter than the timer's resolution: raise --seconds "
            "or --benchmark_steps, or put more into a step"
        )
    return steps


def count_cosines(steps: Floats, block: int) -> int:
    """How many cosines estimate the variance of the mean of ``steps``; at least two.

    At most 0.4 n^(2/3) (Lazarus et al.), and one for each block of ``block`` steps, so that the shortest
    period, of two blocks, is longer than the queue's bursts. Fewer where the first-order autocorrelation rho
    is high: the spectrum of an AR(1) series falls as 1 / (1 + w^2 rho / (1 - rho)^2), and on the average over
    the cosines, w = pi j / n, it may lose `MAX_BIAS`.
    """
    n = len(steps)
    most = max(min(int(0.4 * n ** (2 / 3)), n // max(block, 1)), 2)
    centred = steps - steps.mean()
    power = float(centred @ centred)
    if power == 0:
        return most
    found = float(centred[1:] @ centred[:-1]) / power
    rho = min(found + (1 + 3 * found) / n, 0.97)  # Kendall's correction of the bias in short series
    if rho <= 0:
        return most
    return min(most, max(2, int(n / math.pi * (1 - rho) * math.sqrt(3 * MAX_BIAS / rho))))


def spread_of_mean(series: Floats, cosines: int) -> Spread:
    """Of the mean of ``series``, from that many cosines."""
    n = len(series)
    projections = _cosines(n, cosines) @ series
    return Spread(float(projections @ projections) / cosines / n**2, cosines)


@lru_cache(maxsize=64)
def _cosines(n: int, count: int) -> Floats:
    """Rows of length n, orthogonal to each other and to a constant, with a mean square of 1."""
    time = (np.arange(n) + 0.5) / n
    return math.sqrt(2) * np.cos(math.pi * np.outer(np.arange(1, count + 1), time))


@lru_cache(maxsize=4096)
def student(level: float, freedom: float) -> float:
    """The quantile of Student's t at ``level`` (above 0.5), for any real ``freedom`` of at least 1.

    With t = sqrt(freedom) tan(angle) the density is that of cos^(freedom - 1), integrated here by trapezoids:
    right to 0.3 % at 97.5 %, for up to 5000 degrees of freedom.
    """
    angle = np.linspace(0, math.pi / 2, 2001)
    density = np.cos(angle) ** (freedom - 1)
    area = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(2 * level - 1, area / area[-1], angle)))
