"""Whether a series grows: a slope that neither spikes nor a sawtooth mislead."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.soak.sampling import Sample

WARMUP = 0.2
"""First part of the steps, which does not count: caches fill, allocators learn."""
LEAST = 10
"""Samples without which nothing is said."""


@dataclass(frozen=True)
class Limit:
    """From where on a series is not flat."""

    per_1000_steps: float | None = None
    over_all: float | None = None
    """From the end of the warm-up to the end."""


LIMITS = {
    "memory_bytes": Limit(per_1000_steps=1e6),
    "descriptors": Limit(over_all=0.5),
    "threads": Limit(over_all=0.5),
    "shared_memory_bytes": Limit(over_all=65536),
    "shared_memory_names": Limit(over_all=0.5),
}
"""Of `Sample`'s values."""


@dataclass(frozen=True)
class Trend:
    """Of one series after its warm-up."""

    first: float
    """Median of the first tenth."""
    last: float
    """Median of the last tenth."""
    per_1000_steps: float
    flat: bool


def theil_sen(x: Sequence[float], y: Sequence[float]) -> float:
    """The median of the slopes between all pairs of points of different ``x`` (Theil 1950, Sen 1968).

    A third of the points, wherever they are, cannot move it far.

    Raises:
        ValueError: No two points differ in ``x``.
    """
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    one, other = np.triu_indices(len(xs), 1)
    apart = xs[other] - xs[one]
    if not apart.any():
        raise ValueError("a slope needs points of different x")
    return float(np.median((ys[other] - ys[one])[apart != 0] / apart[apart != 0]))


def after_warmup(samples: Sequence[Sample]) -> list[Sample]:
    """Those that count."""
    end = samples[-1].steps if samples else 0
    return [sample for sample in samples if sample.steps >= max(1, WARMUP * end)]


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """Of all values that have a limit; empty where there are too few samples to say anything."""
    counted = after_warmup(samples)
    if len(counted) < LEAST or counted[0].steps == counted[-1].steps:
        return {}
    thousands = [sample.steps / 1000 for sample in counted]
    tenth = max(1, len(counted) // 10)
    found = {}
    for name, limit in LIMITS.items():
        values = [getattr(sample, name) for sample in counted]
        slope = theil_sen(thousands, values)
        flat = True
        if limit.per_1000_steps is not None:
            flat = slope < limit.per_1000_steps
        if limit.over_all is not None:
            flat = flat and slope * (thousands[-1] - thousands[0]) < limit.over_all
        ends = float(np.median(values[:tenth])), float(np.median(values[-tenth:]))
        found[name] = Trend(*ends, slope, flat)
    return found
