"""What follows from the global batch, for any number of ranks."""

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtime.arguments import RunConfig
from runtime.errors import RunError
from runtime.mlperf_arguments import RULESETS
from runtime.preflight import batches
from runtime.preflight.batches import batch_findings
from runtime.preflight.finding import State
from runtime.schedule import EvaluationSchedule, mlperf_evaluation
from tests.unit.runtime.preflight_cases import legal_config, of_rule, off

RULES = ["samples per epoch", "evaluations", "last epoch", "global batch"]


def run(batch_size: int, ga_steps: int = 1, last_batch: str = "drop", **changes: object) -> RunConfig:
    config = replace(legal_config(), evaluation=None, **changes)
    loader = replace(config.loader, batch_size=batch_size, ga_steps=ga_steps, last_batch=last_batch)
    return replace(config, loader=loader)


@given(st.integers(1, 30), st.integers(1, 3), st.integers(1, 40), st.sampled_from(("drop", "pad")))
def test_only_dropped_samples_are_off(batch_size: int, ga_steps: int, ranks: int, last_batch: str) -> None:
    batch = batch_size * ga_steps * ranks
    assume(batch <= 168 or last_batch == "pad")
    first = mlperf_evaluation(ceil(168 / batch) * batch).start
    findings = batch_findings(run(batch_size, ga_steps, last_batch, epochs=2 * first), ranks)
    dropped = last_batch == "drop" and 168 % batch > 0
    assert off(findings) == (["samples per epoch"] if dropped else [])


@given(st.integers(1, 168), st.integers(1, 3000), st.integers(1, 200), st.integers(1, 12000))
def test_schedule_and_last_epoch_are_those_of_the_padded_epoch(
    batch: int, start: int, every: int, epochs: int
) -> None:
    samples = ceil(168 / batch) * batch
    config = run(batch, last_batch="pad", epochs=epochs)
    config = replace(config, evaluation=EvaluationSchedule(start=start, every=every))
    first, between = ceil(1000 * 168 / samples), ceil(20 * 168 / samples)
    expected = []
    if (start, every) != (first, between):
        expected.append("evaluations")
    if not first <= epochs <= ceil(10000 * 168 / samples):
        expected.append("last epoch")
    assert off(batch_findings(config, 1)) == expected
    named = replace(config, evaluation=mlperf_evaluation(samples))
    assert "evaluations" not in off(batch_findings(named, 1))


def test_evaluation_ranks_do_not_count_for_the_batch() -> None:
    findings = batch_findings(run(1, eval_ranks=16), 72)
    assert of_rule(findings, "global batch").found == "56"


@pytest.mark.parametrize(
    ("config", "ranks", "reason"),
    [
        (run(7, eval_ranks=8), 8, "--eval_ranks 8 of 8 ranks leaves none that trains"),
        (run(7), 32, "168 training cases do not fill one step of 224 samples"),
    ],
)
def test_no_rule_is_skipped_where_there_is_no_epoch(config: RunConfig, ranks: int, reason: str) -> None:
    findings = batch_findings(config, ranks)
    assert off(findings) == RULES
    assert all(finding.remedy.startswith(reason) for finding in findings)


@pytest.mark.parametrize(
    ("batch", "state", "shown"),
    [
        (2, State.WARNING, "2, the nearest point is 28"),
        (28, State.OK, "28"),
        (42, State.OK, "42"),
        (84, State.OK, "84"),
        (168, State.WARNING, "168, the nearest point is 84"),
    ],
)
def test_a_batch_outside_the_points_is_worth_a_thought(batch: int, state: State, shown: str) -> None:
    found = of_rule(batch_findings(run(batch), 1), "global batch")
    assert (found.state, found.found) == (state, shown)
    assert found.required == "28 to 84, with points at 28, 56, 84"


@pytest.mark.parametrize("ruleset", RULESETS)
def test_every_ruleset_has_points(ruleset: str) -> None:
    config = run(56)
    config = replace(config, mlperf=replace(config.mlperf, ruleset=ruleset))
    assert of_rule(batch_findings(config, 1), "global batch").state is not State.OFF


def test_points_that_cannot_be_had_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(ruleset: str) -> tuple[()]:
        raise RunError(f"no points for {ruleset}: pip install mlperf-logging")

    monkeypatch.setattr(batches, "load_rcps", missing)
    findings = batch_findings(run(56), 1)
    assert off(findings) == ["global batch"]
    assert "pip install" in of_rule(findings, "global batch").remedy
