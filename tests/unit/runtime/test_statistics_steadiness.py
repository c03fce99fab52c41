"""Windows that are steady, and windows that are not: how often each is called what it is."""

from collections.abc import Callable

import numpy as np
import pytest
from simulated_steps import Floats, bursts, lognormal, normal, spikes

from runtime.statistics import Steadiness, TooFewSteps, steadiness

SIMULATIONS = 800
STEPS = 200
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

STATIONARY: dict[str, tuple[Draw, int]] = {
    "quiet": (lambda rng, shape: normal(rng, shape, 0.3, 0.05), 8),
    "noisy": (lambda rng, shape: normal(rng, shape, 0.3, 0.15), 8),
    "sticky": (lambda rng, shape: normal(rng, shape, 0.7, 0.1), 8),
    "log-normal": (lambda rng, shape: lognormal(rng, shape, 0.5), 8),
    "stalls": (spikes, 8),
    "bursts of 2": (lambda rng, shape: bursts(rng, shape, 2, 0.05, 0.3), 8),
    "bursts of 4": (lambda rng, shape: bursts(rng, shape, 4, 0.05, 0.3), 16),
    "barely hidden": (lambda rng, shape: bursts(rng, shape, 4, 0.9, 0.3), 16),
}


def judged(windows: Floats, block: int = 8) -> list[Steadiness]:
    return [steadiness(window, block) for window in windows]


def unsteady(found: list[Steadiness], words: str = "") -> float:
    return float(np.mean([not one.steady and words in one.because for one in found]))


@pytest.mark.parametrize("kind", STATIONARY)
def test_false_alarms_are_rare(kind: str) -> None:
    draw, block = STATIONARY[kind]
    assert unsteady(judged(draw(np.random.default_rng(1), (SIMULATIONS, STEPS)), block)) < 0.05


@pytest.mark.parametrize(("cv", "rho", "least"), [(0.03, 0.5, 0.99), (0.05, 0.3, 0.97), (0.1, 0.0, 0.75)])
def test_a_drift_of_a_tenth_is_caught(cv: float, rho: float, least: float) -> None:
    windows = normal(np.random.default_rng(2), (200, STEPS), rho, cv) * np.linspace(1, 1.1, STEPS)
    assert unsteady(judged(windows), "drift by +") >= least


def test_the_second_half_is_compared_with_the_first() -> None:
    windows = normal(np.random.default_rng(2), (100, STEPS), 0.3, 0.03)
    windows[:, STEPS // 2 :] *= 0.9
    found = judged(windows)
    assert unsteady(found, "steps of the second half take") == 1
    assert unsteady(found, "% less than those of the first") == 1


@pytest.mark.parametrize(
    ("height", "length", "least"), [(0.5, 40, 0.99), (0.5, 20, 0.97), (1.0, 10, 0.95), (0.3, 20, 0.85)]
)
def test_a_ramp_of_warm_up_is_caught(height: float, length: float, least: float) -> None:
    """Steps that are longer by ``height`` at first, by a third of that after ``length`` steps."""
    ramp = height * np.exp(-np.arange(STEPS) / length)
    windows = normal(np.random.default_rng(3), (200, STEPS), 0.3, 0.1) + ramp
    found = judged(windows)
    assert unsteady(found) >= least
    assert unsteady(found, "the first tenth takes") >= least - 0.03


def test_a_ramp_is_caught_among_stalled_steps() -> None:
    windows = spikes(np.random.default_rng(3), (200, STEPS)) + np.exp(-np.arange(STEPS) / 10)
    assert unsteady(judged(windows), "the first tenth takes") >= 0.95


def test_one_stalled_step_at_the_start_is_no_warm_up() -> None:
    windows = normal(np.random.default_rng(4), (100, STEPS), 0.3, 0.05)
    windows[:, 3] *= 10
    assert unsteady(judged(windows)) < 0.05


def test_a_steady_window_has_nothing_to_say() -> None:
    assert steadiness([1.0] * 50, 8) == Steadiness(True, "")


def test_a_window_too_short_to_tell() -> None:
    with pytest.raises(TooFewSteps):
        steadiness([1.0] * 15, 8)
