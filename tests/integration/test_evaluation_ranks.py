"""Ranks that evaluate while others train, and runs over several machines."""

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.mllog.figures import figures
from benchmark.mllog.log import read_log
from tests.integration.conftest import SMALL, succeed
from tests.integration.test_mlperf_log import faults
from tests.integration.test_run_and_time import SMALL_RUN, run_and_time

LEARNING = ("--batch_size", 1, "--learning_rate", 0.02, "--seed", 3, "--caches_cleared", "yes")


def ranks(number: int) -> tuple[object, ...]:
    return ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={number}", "main.py")


def events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line[9:]) for line in log.read_text().splitlines()]


def test_scores_are_those_of_evaluating_in_turn(cubes: Path, tmp_path: Path) -> None:
    said = []
    for name, number, more in (("turn", 2, ()), ("beside", 4, ("--eval_ranks", 2))):
        folder = tmp_path / name
        output = succeed(
            *ranks(number), "--data_dir", cubes, *SMALL, *LEARNING, *more, "--log_dir", folder,
            "--epochs", 4, "--save_ckpt_path", folder / "c.pth", "--untimed_warmup_steps", 1,
            "--mlperf_division", "closed-test", OMP_NUM_THREADS="1",
        )  # fmt: skip
        said.append(re.findall(r"(?m)^epoch \d+: mean Dice .*", output))
        assert faults(folder / "unet3d.log", "4.0.0") == {"train_samples", "eval_samples", "eval_accuracy"}
    assert len(said[0]) == 4
    assert said[0] == said[1]
    one, other = (torch.load(tmp_path / name / "c.pth", weights_only=True) for name in ("turn", "beside"))
    assert (one["epoch"], one["last_epoch"]) == (other["epoch"], other["last_epoch"])
    for state in ("best_model_state_dict", "last_model_state_dict"):
        assert all(torch.equal(one[state][name], other[state][name]) for name in one[state])
    # In the log a block has begun before the first score has come.
    keys = [event["key"] for event in events(tmp_path / "beside" / "unet3d.log")]
    assert keys.index("eval_accuracy") > keys.index("block_start", keys.index("eval_start"))
    assert figures(read_log(tmp_path / "beside" / "unet3d.log")).evaluates_beside_training
    assert not figures(read_log(tmp_path / "turn" / "unet3d.log")).evaluates_beside_training


def test_the_clock_stops_with_the_score_that_reaches_the_target(cubes: Path, tmp_path: Path) -> None:
    output = succeed(
        *ranks(2), "--data_dir", cubes, *SMALL, *LEARNING, "--eval_ranks", 1, "--log_dir", tmp_path,
        "--epochs", 200, "--quality_threshold", 0.0, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert "reached after epoch" in output
    found = events(tmp_path / "unet3d.log")
    assert [event["key"] for event in found[-3:]] == ["eval_accuracy", "eval_stop", "run_stop"]
    assert found[-1]["metadata"]["status"] == "success"
    assert [event["key"] for event in found].count("eval_accuracy") == 1


@pytest.mark.slow
def test_two_machines_of_two_ranks_are_one_run(cubes: Path, tmp_path: Path) -> None:
    """Each with a torchrun of its own, which meet at an address."""
    one, four = tmp_path / "one", tmp_path / "four"
    learning = {**SMALL_RUN, "DATASET_DIR": str(cubes), "LEARNING_RATE": "0", "INIT_LEARNING_RATE": "0"}
    done = run_and_time(3, **learning, BATCH_SIZE="4", LOG_DIR=str(one), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"NNODES": "2", "NPROC": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "BIND": "0"}
    with ThreadPoolExecutor() as threads:
        machines = [
            threads.submit(
                run_and_time, 3, **learning, **place, NODE_RANK=str(node), BATCH_SIZE="1", LOG_DIR=str(four)
            )
            for node in (1, 0)
        ]
        other, first = (machine.result() for machine in machines)
    assert (other.returncode, first.returncode) == (0, 0), other.stderr + first.stderr
    assert "unreached after epoch 2" in first.stdout
    assert "epoch" not in other.stdout  # one machine speaks
    assert "RESULT" in first.stdout
    assert "RESULT" not in other.stdout
    assert [path.name for path in four.iterdir()] == ["unet3d.log"]
    logs = [events(folder / "unet3d.log") for folder in (one, four)]
    scores = [[e["value"] for e in log if e["key"] == "eval_accuracy"] for log in logs]
    assert len(scores[0]) == 2
    assert scores[0] == scores[1]  # weights have not changed: sums over cases and their number are the same
    assert [e["value"] for e in logs[1] if e["key"] == "global_batch_size"] == [4]
