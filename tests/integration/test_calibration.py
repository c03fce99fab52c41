"""The instrument finds what is put in."""

import pytest

from benchmark.calibrate import coverage, overhead
from benchmark.calibrate.attribution import TRIALS, attributions


@pytest.mark.slow
def test_every_delay_is_attributed_and_every_verdict_is_right() -> None:
    found = list(attributions())
    assert [attribution.name for attribution in found] == list(TRIALS)
    assert not (
        wrong := {attribution.name: attribution.wrong for attribution in found if attribution.wrong}
    ), wrong


def test_every_verdict_is_tried() -> None:
    assert {trial.verdict for trial in TRIALS.values()} == {
        "compute-bound", "fetch-bound", "prep-bound", "transfer-bound", "contention-bound",
    }  # fmt: skip


@pytest.mark.slow
def test_intervals_cover_what_they_claim() -> None:
    for name, share in coverage.coverages(600):
        assert coverage.LOW <= share <= coverage.HIGH, f"{name}: {share:.3f}"


def test_measuring_costs_less_than_one_percent_of_a_step() -> None:
    assert sum(overhead.per_step_us(7).values()) < overhead.LIMIT_US
