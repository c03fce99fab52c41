"""How often the 95 % interval of a rate holds the true rate, on simulated steps that depend on each other."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from runtime import statistics

LOW, HIGH = 0.92, 0.98
"""What a 95 % interval may really cover."""

_MEAN_S = 0.05

Steps = NDArray[np.float64]


def _autoregressive(rho: float) -> Callable[[np.random.Generator, int], Steps]:
    """Steps of 50 ms with a standard deviation of 10 %, each resembling the one before."""

    def draw(rng: np.random.Generator, count: int) -> Steps:
        shocks = rng.standard_normal(count) * np.sqrt(1 - rho**2)
        value, values = rng.standard_normal(), np.empty(count)
        for k in range(count):
            value = rho * value + shocks[k]
            values[k] = value
        return _MEAN_S * (1 + 0.1 * values)

    return draw


def _bursts(rng: np.random.Generator, count: int) -> Steps:
    """What a prefetch queue of four does: three short steps and a long one, starting anywhere."""
    pattern = np.tile([0.6, 0.6, 0.6, 2.2], count // 4 + 2)
    first = int(rng.integers(4))
    return _MEAN_S * pattern[first : first + count] * np.exp(rng.normal(-0.005, 0.1, count))


SIMULATIONS = {
    "independent": _autoregressive(0.0),
    "autocorrelated, rho 0.3": _autoregressive(0.3),
    "autocorrelated, rho 0.7": _autoregressive(0.7),
    "bursts of a queue of 4": _bursts,
}


def coverages(simulations: int, *, steps: int = 200, block: int = 8) -> Iterator[tuple[str, float]]:
    """For each kind of steps: the part of ``simulations`` windows whose interval holds the true rate."""
    for number, (name, draw) in enumerate(SIMULATIONS.items()):
        rng = np.random.default_rng(number)
        hits = 0
        for _ in range(simulations):
            interval = statistics.rate([draw(rng, steps).tolist()], 1.0, block)
            hits += interval.low <= 1 / _MEAN_S <= interval.high
        yield name, hits / simulations
