"""Step times from records, and records without any."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.gpu_check.journal import FAILED, OK, Outcome
from benchmark.record import Record, write_record
from benchmark.scale.measured import Measured, StepTime, read_measured
from pipelines.errors import DataError
from tests.unit.benchmark import compared_records, gpu_checks, scale_records


def read(folder: Path, record: Record) -> Measured:
    write_record(record, folder / "record.json")
    return read_measured(folder)


def test_of_a_benchmark(tmp_path: Path) -> None:
    found = read(tmp_path, scale_records.benchmark(640.0, ranks=8, speed={"ddp_gradient_dtype": "bfloat16"}))
    assert (found.ranks, found.gradient_dtype) == (8, "bfloat16")
    step = found.steps[7]
    assert (step.value, step.low, step.high) == tuple(map(pytest.approx, (56 / 640, 56 / 646.4, 56 / 633.6)))
    assert found.remarks == ("the whole pipeline, loader pytorch",)


def test_of_a_benchmark_that_was_short_and_unsteady_on_a_cpu(tmp_path: Path) -> None:
    record = scale_records.benchmark(device="cpu")
    name = "images_per_second"
    changes = {f"{name}_low": None, f"{name}_high": None, "steady": False, "unsteady_because": "it drifts"}
    found = read(tmp_path, replace(record, results=record.results | changes))
    assert found.steps == {7: StepTime(7 / 80)}
    assert found.remarks[1].startswith("measured on cpu")
    assert found.remarks[2] == "UNSTEADY: it drifts"


def test_of_a_profile(tmp_path: Path) -> None:
    found = read(tmp_path, scale_records.profile(40.0, batch=2))
    assert found.steps[2].value == pytest.approx(2 / 40)
    assert found.steps[2].high == pytest.approx(2 / 39.6)


def test_of_a_gpu_check_the_fastest_of_each_batch(tmp_path: Path) -> None:
    journal = gpu_checks.journal(tmp_path)
    journal.begin("ladder", "steps")
    for name, rate, batch in (("native", 60.0, 7), ("graph", 90.0, 7), ("small", 80.0, 2)):
        journal.note("ladder", Outcome(name, OK, values=gpu_checks.step(rate, batch)), name)
    journal.note("ladder", Outcome("broken", FAILED, "out of memory"), "broken")
    found = read_measured(tmp_path)
    assert found.steps == {7: StepTime(7 / 90), 2: StepTime(2 / 80)}
    assert found.remarks[0].endswith("small (batch 2), graph (batch 7)")


def test_of_the_step_command_the_fastest_of_ours(tmp_path: Path) -> None:
    rates = {"reference": [9.0, 9.0, 9.0], "ours": [1.0, 2.0, 9.0], "ours-recompute": [1.0, 1.5, 8.0]}
    found = read(tmp_path, scale_records.step(rates))
    assert found.steps == {2: StepTime(2 / 2)}
    assert "ours (batch 2)" in found.remarks[0]


PROFILE = scale_records.profile()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(PROFILE, suite="fronts"), "has no step time: it is of suite fronts; expected one of"),
        (replace(PROFILE, suite="benchmark-evaluate"), "which times evaluations; expected one of"),
        (replace(PROFILE, suite="gpu-check-dry-run"), "whose numbers are no measurements"),
        (compared_records.sweep({}), "which has many: give the record of one of its points"),
        (
            scale_records.profile(emulated={"name": "nvidia-h200"}),
            "emulated by nvidia-h200, a published time",
        ),
        (scale_records.profile(findings=None), "was interrupted before all arms were measured"),
        (scale_records.profile(step="mine:step"), "is of the step mine:step"),
        (scale_records.profile(patch=[64, 64, 64]), "is of 64x64x64 patches and filters 32 64 128 256 320"),
        (scale_records.profile(ga_steps=2), "steps of 2 micro-batches: measure with --ga_steps 1"),
        (scale_records.profile(findings={"rates": {}}), "no step time as suite profile has it"),
        (scale_records.benchmark(0.0), "no step time as suite benchmark-train has it"),
        (scale_records.benchmark(width=-0.5), "no step time as suite benchmark-train has it"),
        (scale_records.benchmark(filters=[32, 64]), "is of 128x128x128 patches and filters 32 64: expected"),
        (scale_records.step({"reference": [1.0]}), "of the contenders none is ours"),
        (replace(scale_records.step({}), results={"time": None}), "launches were counted, nothing timed"),
        (replace(PROFILE, suite="gpu-check", results={"sections": {}}), "no step of its ladder was finished"),
    ],
)
def test_records_without_a_step_time(tmp_path: Path, record: Record, reason: str) -> None:
    with pytest.raises(DataError) as refused:
        read(tmp_path, record)
    assert reason in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path))
    assert "\n" not in str(refused.value)
