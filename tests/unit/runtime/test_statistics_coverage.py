"""How often intervals that claim 95 % hold the truth, on steps that depend on each other."""

from collections.abc import Callable

import numpy as np
import pytest
from simulated_steps import Floats, bursts, lognormal, mean_of_bursts, normal

from runtime.interval import Interval
from runtime.statistics import paired_ratio, quotient, rate, ratio

Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

SIMULATIONS = 1500
"""Of which 0.6 % is one standard error at 95 %."""
TWO, FOUR = (2, 0.05, 0.3), (4, 0.05, 0.3)
"""Workers, seconds of a step, spread: the loader is too slow, and batches come two and four at a time."""
HIDDEN = (4, 0.9, 0.3)
"""The loader is barely hidden, and shows now and then."""

STEPS: dict[str, tuple[Draw, float, int]] = {
    "independent": (lambda rng, shape: normal(rng, shape), 1.0, 8),
    "AR 0.3": (lambda rng, shape: normal(rng, shape, 0.3), 1.0, 8),
    "AR 0.7": (lambda rng, shape: normal(rng, shape, 0.7), 1.0, 8),
    "log-normal": (lambda rng, shape: lognormal(rng, shape), 1.0, 8),
    "log-normal AR 0.5": (lambda rng, shape: lognormal(rng, shape, 0.5), 1.0, 8),
    "bursts of 2": (lambda rng, shape: bursts(rng, shape, *TWO), mean_of_bursts(*TWO), 8),
    "bursts of 4": (lambda rng, shape: bursts(rng, shape, *FOUR), mean_of_bursts(*FOUR), 16),
    "barely hidden": (lambda rng, shape: bursts(rng, shape, *HIDDEN), mean_of_bursts(*HIDDEN), 16),
}
"""Name: draw, true mean, block (twice the depth of the queue)."""


def covered(intervals: list[Interval], truth: float) -> float:
    """The part of the intervals that hold the truth."""
    return float(np.mean([found.low <= truth <= found.high for found in intervals]))


@pytest.mark.parametrize("steps", [60, 200, 500])
@pytest.mark.parametrize("kind", STEPS)
def test_one_window(kind: str, steps: int) -> None:
    draw, mean, block = STEPS[kind]
    windows = draw(np.random.default_rng(steps), (SIMULATIONS, steps))
    part = covered([rate([window], 2.0, block) for window in windows], 2 / mean)
    print(f"{kind:18} 1 x {steps:3}: {part:.3f}")
    assert 0.92 <= part <= 0.98


@pytest.mark.parametrize("between", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("kind", ["independent", "AR 0.7", "bursts of 4"])
def test_several_windows(kind: str, count: int, between: float) -> None:
    draw, mean, block = STEPS[kind]
    rng = np.random.default_rng(count)
    windows = draw(rng, (SIMULATIONS * count, 100)).reshape(SIMULATIONS, count, 100)
    windows *= np.exp(between * rng.standard_normal((SIMULATIONS, count, 1)))
    part = covered([rate(group, 1.0, block) for group in windows], 1 / mean)
    print(f"{kind:18} {count} x 100, {between:.0%} between: {part:.3f}")
    # Windows of bursts are a little less variable than their steps let fear.
    assert 0.92 <= part <= (0.985 if kind == "bursts of 4" else 0.98)


def test_one_window_with_as_few_steps_as_are_allowed() -> None:
    rng = np.random.default_rng(0)
    for rho, least in ((0.0, 0.93), (0.5, 0.915)):
        windows = normal(rng, (SIMULATIONS, 10), rho)
        assert least <= covered([rate([window], 1.0, 4) for window in windows], 1.0) <= 0.98


@pytest.mark.parametrize("method", ["steps", "intervals"])
def test_ratio(method: str) -> None:
    """Of a long steady window of a step and a short one of bursts."""
    rng = np.random.default_rng(2)
    draw, mean, _ = STEPS["bursts of 2"]
    over, under = draw(rng, (SIMULATIONS, 60)), normal(rng, (SIMULATIONS, 300), 0.5)
    if method == "steps":
        found = [ratio([a], [b], 8) for a, b in zip(over, under, strict=True)]
    else:
        found = [quotient(rate([a], 1, 8), rate([b], 1, 8)) for a, b in zip(over, under, strict=True)]
    assert 0.92 <= covered(found, 1 / mean) <= 0.98


@pytest.mark.parametrize("own", [0.0, 0.03])
def test_ratio_of_windows_in_rounds(own: float) -> None:
    """Rounds differ by a tenth, and by ``own`` between the two sides."""
    rng = np.random.default_rng(4)
    draw, mean, _ = STEPS["bursts of 2"]
    rounds = np.exp(0.1 * rng.standard_normal((SIMULATIONS, 4, 1)))
    over = rounds * draw(rng, (SIMULATIONS * 4, 100)).reshape(SIMULATIONS, 4, 100)
    under = rounds * normal(rng, (SIMULATIONS * 4, 60), 0.5).reshape(SIMULATIONS, 4, 60)
    over *= np.exp(own * rng.standard_normal((SIMULATIONS, 4, 1)))
    found = [ratio(a, b, 8, paired=True) for a, b in zip(over, under, strict=True)]
    assert 0.92 <= covered(found, 1 / mean) <= 0.98
    alone = [ratio(a, b, 8) for a, b in zip(over[:200], under[:200], strict=True)]
    assert width(found) < 0.6 * width(alone)


def width(intervals: list[Interval]) -> float:
    return float(np.median([np.log(found.high / found.low) for found in intervals]))


@pytest.mark.parametrize("pairs", [6, 7, 8, 10, 15, 30])
@pytest.mark.parametrize("noise", ["quiet", "stalls", "drift"])
def test_paired_ratio(noise: str, pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    shape = (SIMULATIONS, pairs)
    over, under = (0.03 * rng.standard_normal(shape) for _ in range(2))
    if noise == "stalls":  # one slice in ten is up to ten times slower
        for side in (over, under):
            side -= np.where(rng.random(shape) < 0.1, rng.uniform(0, np.log(10), shape), 0)
    if noise == "drift":  # the machine loses one part in a hundred with every slice; the order alternates
        machine = -0.01 * np.arange(2 * pairs)
        order = np.arange(pairs) % 2
        over += machine[2 * np.arange(pairs) + order]
        under += machine[2 * np.arange(pairs) + 1 - order]
    found = [paired_ratio(1.2 * np.exp(a), np.exp(b)) for a, b in zip(over, under, strict=True)]
    part = covered(found, 1.2)
    print(f"{noise:18} {pairs:2} pairs: {part:.3f}")
    assert 0.92 <= part <= 0.98


def test_pairs_cancel_a_drift_that_hides_the_difference_from_independent_windows() -> None:
    rng = np.random.default_rng(0)
    machine = np.repeat(np.linspace(1.0, 1.5, 12), 20)
    steps = [machine * normal(rng, (1, 240), 0.0, 0.05)[0] * seconds for seconds in (1.0, 1.05)]
    alone = ratio([steps[0]], [steps[1]], 8)
    assert alone.low < 1 < alone.high
    slices = [20 / side.reshape(12, 20).sum(1) for side in steps]
    assert paired_ratio(*slices).low > 1.02
