"""Step times with a known mean: what the statistics of a throughput are tried on."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def autoregressive(rng: np.random.Generator, shape: tuple[int, int], rho: float) -> Floats:
    """Series in the rows: standard normal, each value ``rho`` times the one before plus a shock."""
    values = rng.standard_normal(shape)
    for k in range(1, shape[1]):
        values[:, k] = rho * values[:, k - 1] + np.sqrt(1 - rho**2) * values[:, k]
    return values


def normal(rng: np.random.Generator, shape: tuple[int, int], rho: float = 0.0, cv: float = 0.1) -> Floats:
    """Autoregressive steps around 1."""
    return 1 + cv * autoregressive(rng, shape, rho)


def lognormal(rng: np.random.Generator, shape: tuple[int, int], rho: float = 0.0) -> Floats:
    """Steps with a long tail and a mean of 1; the logarithm has a standard deviation of 0.5."""
    return np.exp(0.5 * autoregressive(rng, shape, rho) - 0.125)


def spikes(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Steps of which three in a hundred are stalled, to two to eight times their length."""
    stalled = rng.random(shape) < 0.03
    return normal(rng, shape, 0.3, 0.05) * np.where(stalled, rng.uniform(2, 8, shape), 1)


def bursts(
    rng: np.random.Generator, shape: tuple[int, int], workers: int, step: float, sigma: float
) -> Floats:
    """Steps at a queue with ``workers``, each two batches ahead, that deliver in order.

    A batch takes a worker ``workers`` on average (log-normal), so that one comes in about 1; the consumer
    takes ``step``. Windows begin anywhere in the pattern of bursts.
    """
    series, steps = shape
    count = steps + 60 + 8 * workers
    service = workers * rng.lognormal(-(sigma**2) / 2, sigma, (series, count))
    ready, taken = np.zeros((series, count)), np.zeros((series, count))
    for k in range(count):
        begin = np.zeros(series)
        if k >= workers:
            begin = ready[:, k - workers]
        if k >= 2 * workers:
            begin = np.maximum(begin, taken[:, k - 2 * workers])
        ready[:, k] = begin + service[:, k]
        taken[:, k] = np.maximum(ready[:, k], (taken[:, k - 1] if k else 0.0) + step)
    first = 59 + rng.integers(0, 8 * workers, series)
    window = first[:, None] + np.arange(steps + 1)
    return np.diff(np.take_along_axis(taken, window, axis=1), axis=1)


@lru_cache
def mean_of_bursts(workers: int, step: float, sigma: float) -> float:
    """The mean step in the long run, to a few parts in ten thousand."""
    return float(bursts(np.random.default_rng(99), (400, 8000), workers, step, sigma).mean())
