"""What the step times of a window look like: percentiles, outliers, noise. Nothing is dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from pipelines.errors import DataError

NOISY, TOO_NOISY = 0.10, 0.25
"""Interquartile range over median above which torch.utils.benchmark warns of a "lower fidelity", and of a
"significant environmental influence"."""


class Outliers(NamedTuple):
    """Steps beyond Tukey's fences; they are counted, and kept."""

    mild: int
    """Beyond 1.5, but not beyond 3 interquartile ranges below the first or above the third quartile."""
    far: int
    """Beyond 3."""


@dataclass(frozen=True)
class Noise:
    """How far single steps scatter."""

    iqr_over_median: float
    grade: Literal["quiet", "noisy", "too noisy"]


def percentiles(seconds: Sequence[float], which: Sequence[float] = (50, 90, 99)) -> tuple[float, ...]:
    """Percentiles of the step times, in their unit; between two steps by linear interpolation."""
    return tuple(float(value) for value in np.percentile(seconds, which))


def tukey_outliers(seconds: Sequence[float]) -> Outliers:
    """How many steps lie beyond the fences at 1.5 and 3 interquartile ranges."""
    steps = np.asarray(seconds, dtype=np.float64)
    first, third = np.percentile(steps, (25, 75))
    beyond = np.maximum(first - steps, steps - third)
    far = int((beyond > 3 * (third - first)).sum())
    return Outliers(int((beyond > 1.5 * (third - first)).sum()) - far, far)


def noise(seconds: Sequence[float]) -> Noise:
    """The interquartile range over the median, and torch.utils.benchmark's word for it.

    A prefetch queue that is drained in bursts is noisy by this measure though its rate may be known well.

    Raises:
        DataError: a median of zero.
    """
    first, median, third = percentiles(seconds, (25, 50, 75))
    if median <= 0:
        raise DataError("most steps are shorter than the timer's resolution: put more into a step")
    ratio = (third - first) / median
    return Noise(ratio, "too noisy" if ratio > TOO_NOISY else "noisy" if ratio > NOISY else "quiet")


def mean_of_rates(seconds: Sequence[float], items_per_step: float) -> float:
    """Items per second as the MLPerf reference takes them, ``(items / t).mean()``: biased upward.

    By Jensen's inequality it is at least items over time, `statistics.rate`, and the more the steps scatter
    the more: bursts of prefetched batches make it several times as large. To compare with published numbers.

    Raises:
        DataError: a step of zero seconds.
    """
    steps = np.asarray(seconds, dtype=np.float64)
    if not len(steps) or not (steps > 0).all():
        raise DataError("a step of zero seconds has no rate: the mean of rates needs longer steps")
    return float((items_per_step / steps).mean())
