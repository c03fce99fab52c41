"""The MLPerf log as lines in a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.submission.order import initialized_tensors
from model.unet3d import Unet3D
from runtime.logging import RunLog


def events(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines()
    assert all(line.startswith(":::MLLOG ") for line in lines)
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]


def test_lines_reach_the_file_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "unet3d.log"
    log = RunLog(path)
    log.event("seed", 3)
    (line,) = events(path)
    assert (line["key"], line["value"], line["event_type"]) == ("seed", 3, "POINT_IN_TIME")
    assert line["metadata"]["file"].endswith("test_logging.py")
    assert capsys.readouterr() == ("", "")


def test_blocks_and_evaluations(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "a.log")
    with log.block(range(3, 8), samples_per_epoch=10):
        pass
    log.evaluation_start(7, 70)
    log.evaluation_stop(7, 70, 0.5)
    found = events(tmp_path / "a.log")
    assert [e["key"] for e in found] == [
        "block_start",
        "block_stop",
        "eval_start",
        "eval_accuracy",
        "eval_stop",
    ]
    assert (
        found[0]["metadata"].items() >= {"first_epoch_num": 3, "epoch_count": 5, "samples_count": 50}.items()
    )
    assert found[3]["value"] == 0.5
    assert all(e["metadata"]["epoch_num"] == 70 for e in found[2:])


@pytest.mark.parametrize(("ruleset", "place"), [("1.0.0", 7), ("3.0.0", 7), ("3.1.0", 70), ("4.0.0", 70)])
def test_an_evaluation_counts_as_its_rulesets_reference_points_do(
    tmp_path: Path, ruleset: str, place: int
) -> None:
    log = RunLog(tmp_path / "a.log", ruleset)
    log.evaluation_start(7, 70)
    log.evaluation_stop(7, 70, 0.5)
    assert [e["metadata"]["epoch_num"] for e in events(tmp_path / "a.log")] == [place] * 3


def test_nothing_follows_the_end_of_a_run(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "a.log")
    with log.block([1], 1):
        log.run_stop("success")
    log.run_stop("aborted")
    found = events(tmp_path / "a.log")
    assert [e["key"] for e in found] == ["block_start", "run_stop"]
    assert found[1]["metadata"]["status"] == "success"


def test_statistics_are_named_as_nvidias_are(tmp_path: Path) -> None:
    RunLog(tmp_path / "a.log").tracked_stats(20, 607.5, 32768.0, 0.05)
    (event,) = events(tmp_path / "a.log")
    assert event["value"] == {"throughput": 607.5, "loss_scale": 32768.0, "current_lr": 0.05}
    assert event["metadata"]["step"] == 20


def test_an_earlier_runs_log_is_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "unet3d.log"
    for seed in (1, 2):
        RunLog(path).event("seed", seed)
    assert [e["value"] for e in events(path)] == [2]
    (earlier,) = (p for p in tmp_path.iterdir() if p != path)
    assert [e["value"] for e in events(earlier)] == [1]
    assert earlier.suffix == ".log"


def test_every_layer_is_initialised_under_the_rules_name(tmp_path: Path) -> None:
    RunLog(tmp_path / "a.log").weights_initialized(Unet3D(1, 3))
    names = [e["metadata"]["tensor"] for e in events(tmp_path / "a.log")]
    assert len(names) == 50
    assert sorted(names) == sorted(initialized_tensors())


def test_a_network_of_another_depth_has_its_own_layers(tmp_path: Path) -> None:
    RunLog(tmp_path / "a.log").weights_initialized(Unet3D(1, 3, filters=(2, 4)))
    names = [e["metadata"]["tensor"] for e in events(tmp_path / "a.log")]
    assert names[:5] == [
        "input_block_0_conv", "input_block_0_instancenorm", "input_block_1_conv",
        "input_block_1_instancenorm", "down0_block_0_conv",
    ]  # fmt: skip
    assert {"down1_block_0_conv", "up0_deconv", "up1_block_1_instancenorm", "output_conv"} <= set(names)
    assert "down2_block_0_conv" not in names


def test_other_ranks_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog()
    log.event("seed", 1)
    with log.block([1], 1):
        log.evaluation_start(1, 1)
        log.evaluation_stop(1, 1, 1.0)
    log.run_stop("success")
    assert capsys.readouterr().out == ""
