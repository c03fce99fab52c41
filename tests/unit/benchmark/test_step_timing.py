"""What timed steps say, from made-up ones."""

from typing import Any

import pytest

from benchmark.step.timing import LOSS_TOLERANCE, agreement, time_claims, time_findings
from benchmark.step.turns import Course, Steps

COURSE = Course(rounds=6, warmup=1, steps=2)


def process(step_s: float, peak_bytes: int = 100, losses: tuple[float, ...] = (1.0, 0.9, 0.8)) -> Steps:
    """One step of warm-up, which takes ten times as long."""
    seconds = [10 * step_s, step_s, step_s]
    return Steps(
        seconds=seconds, cpu_seconds=[2 * s for s in seconds], losses=list(losses), peak_bytes=peak_bytes
    )


def findings(ours: Any, **options: Any) -> dict[str, Any]:
    reference = [process(2.0 + 0.1 * k) for k in range(6)]
    return time_findings({"reference": reference, "ours": ours(**options)}, COURSE, batch_size=4)


def test_rates_and_ratios() -> None:
    found = findings(lambda: [process((2.0 + 0.1 * k) / 1.25, peak_bytes=80) for k in range(6)])
    reference, ours = found["contenders"]["reference"], found["contenders"]["ours"]
    assert reference["images_per_s"] == pytest.approx([4 / (2.0 + 0.1 * k) for k in range(6)])
    assert reference["median_step_s"] == pytest.approx(2.25)
    assert reference["median_cpu_s"] == pytest.approx(4.5)
    # The machine became slower from round to round, for both.
    assert ours["speed_ratio"] == pytest.approx({"value": 1.25, "low": 1.25, "high": 1.25})
    assert ours["peak_ratio"] == 0.8
    assert "speed_ratio" not in reference
    assert [claim["met"] for claim in time_claims([found])] == [True, True]


@pytest.mark.parametrize(
    ("factors", "met"),
    [([1.1] * 6, True), ([0.9] * 6, False), ([1.1, 0.9] * 3, None), ([1.5] * 5, None)],
    ids=["faster", "slower", "unclear", "too few rounds"],
)
def test_the_claim_of_speed(factors: list[float], met: bool | None) -> None:
    reference = [process(2.0) for _ in factors]
    ours = [process(2.0 / factor, peak_bytes=101) for factor in factors]
    found = time_findings({"reference": reference, "ours": ours}, COURSE, batch_size=1)
    assert [claim["met"] for claim in time_claims([found])] == [met, False]


def test_without_the_reference_nothing_is_claimed() -> None:
    found = time_findings({"ours": [process(1.0)]}, COURSE, batch_size=1)
    assert time_claims([found]) == []


@pytest.mark.parametrize(
    ("losses", "agree"),
    [
        ((1.0, 0.9, 0.8), True),
        ((1.0 + LOSS_TOLERANCE / 2, 0.9, 0.8), True),
        ((1.0, 0.9, 0.8 - 3 * LOSS_TOLERANCE), False),
        ((1.0, float("nan"), 0.8), False),
        ((1.0, float("inf"), 0.8), False),
    ],
)
def test_agreement_of_all_processes(losses: tuple[float, ...], agree: bool) -> None:
    for runs in ([process(1), process(1, losses=losses)], [process(1, losses=losses), process(1)]):
        found = agreement({"reference": [process(1)], "ours": runs})
        assert found["agree"] is agree
        assert len(found["differences"]) == 3


def test_steps_after_the_first_may_drift_apart() -> None:
    same = (1.0, 0.9, 0.8)
    runs = {"a": [process(1, losses=(*same, 0.7))], "b": [process(1, losses=(*same, 0.6))]}
    assert agreement(runs)["agree"]
