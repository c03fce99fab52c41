"""``run_and_time.sh`` as people who run MLPerf use it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, dice_scores, processes_naming
from tests.integration.test_mlperf_log import faults

SMALL_RUN = {
    "FILTERS": "4 8", "INPUT_SHAPE": "16 16 16", "VAL_INPUT_SHAPE": "32 32 32", "NUM_WORKERS": "1",
    "START_EVAL_AT": "1", "EVALUATE_EVERY": "1", "MAX_EPOCHS": "2", "CLEAR_CACHES": "0",
}  # fmt: skip


def run_and_time(
    seed: int, timeout: float = 280, cwd: Path = Path("/"), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "run_and_time.sh"), str(seed)],
        env=os.environ | {"PYTHON": sys.executable, "USER": "somebody"} | environment,
        capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd,
    )  # fmt: skip


def test_a_run_is_timed_and_its_result_printed(cubes: Path, tmp_path: Path) -> None:
    done = run_and_time(7, DATASET_DIR=str(cubes), LOG_DIR=str(tmp_path), **SMALL_RUN)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("STARTING TIMING RUN AT ") for line in lines)
    assert re.fullmatch(r"RESULT,image_segmentation,7,\d+,somebody,\d{4}-\d\d-\d\d .*", lines[-1])
    assert "caches were NOT dropped" in done.stdout
    log = (tmp_path / "unet3d.log").read_text()
    assert '"key": "seed", "value": 7' in log
    assert '"key": "cache_clear"' not in log


def test_paths_are_the_callers(cubes: Path, tmp_path: Path) -> None:
    done = run_and_time(1, cwd=cubes.parent, DATASET_DIR=cubes.name, LOG_DIR=str(tmp_path), **SMALL_RUN)
    assert done.returncode == 0, done.stderr


def test_every_hyperparameter_can_be_overridden(cubes: Path, tmp_path: Path) -> None:
    done = run_and_time(
        1, DATASET_DIR=str(cubes), LOG_DIR=str(tmp_path), **SMALL_RUN, LEARNING_RATE="0.02",
        INIT_LEARNING_RATE="0.001", LR_WARMUP_EPOCHS="3", LR_DECAY_EPOCHS="5 6", LR_DECAY_FACTOR="0.5",
        MOMENTUM="0.8", WEIGHT_DECAY="0.01", BATCH_SIZE="4", GRADIENT_ACCUMULATION_STEPS="2",
        OVERSAMPLING="0.5", OVERLAP="0.25", QUALITY_THRESHOLD="0.99", LAYOUT="NDHWC", OPTIMIZER="adam",
        SAVE_CKPT_PATH=str(tmp_path / "c.pth"), ACTIVATION="leaky_relu", NORMALIZATION="batchnorm",
        INCLUDE_BACKGROUND="1", BRIGHTNESS="nvidia", LAST_BATCH="pad", AMP="1", AMP_DTYPE="bfloat16",
        LAMB_BETAS="0.8 0.9", OPTIMIZER_BACKEND="torch", EXTRA_PARAMS="--verbose",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "unet3d.log").read_text()
    for key, value in {
        "opt_base_learning_rate": 0.02, "opt_initial_learning_rate": 0.001,
        "opt_learning_rate_warmup_epochs": 3, "opt_learning_rate_decay_boundary_epochs": [5, 6],
        "opt_learning_rate_decay_factor": 0.5, "opt_momentum": 0.8, "opt_weight_decay": 0.01,
        "global_batch_size": 8, "gradient_accumulation_steps": 2, "oversampling": 0.5,
        "validation_overlap": 0.25, "training_input_shape": [16, 16, 16],
        "validation_input_shape": [32, 32, 32],
    }.items():  # fmt: skip
        assert f'"key": "{key}", "value": {value},' in log, key
    assert '"opt_name", "value": "adam"' in log
    assert (tmp_path / "c.pth").exists()


def test_missing_data_fails(tmp_path: Path) -> None:
    done = run_and_time(1, DATASET_DIR=str(tmp_path / "nowhere"), LOG_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "nowhere does not exist" in done.stderr
    assert "RESULT" not in done.stdout


def test_a_failed_run_fails_and_prints_no_result(tmp_path: Path) -> None:
    done = run_and_time(1, DATASET_DIR=str(tmp_path), LOG_DIR=str(tmp_path), **SMALL_RUN)
    assert done.returncode == 1
    assert "no case_*_x.npy" in done.stderr
    assert "RESULT" not in done.stdout


@pytest.mark.slow
def test_a_network_learns_the_phantom_past_the_threshold(phantom: Path, tmp_path: Path) -> None:
    done = run_and_time(
        3, timeout=600, DATASET_DIR=str(phantom), LOG_DIR=str(tmp_path), LAYOUT="NDHWC",
        FILTERS="8 16 32 64 80", INPUT_SHAPE="64 64 64", VAL_INPUT_SHAPE="64 64 64", NUM_WORKERS="2",
        LEARNING_RATE="0.3", LR_WARMUP_EPOCHS="10", START_EVAL_AT="30", EVALUATE_EVERY="10",
        MAX_EPOCHS="150", CACHES_CLEARED="yes", MLPERF_DIVISION="closed-test",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "reached after epoch" in done.stdout
    assert dice_scores(done.stdout)[-1] >= 0.908
    kidneys = [float(score) for score in re.findall(r"kidney ([\d.]+)", done.stdout)]
    assert max(kidneys) >= 0.9
    assert '"status": "success"' in (tmp_path / "unet3d.log").read_text()
    # Six cases are too few for the rules, and that is all there is to fault.
    assert faults(tmp_path / "unet3d.log", "4.0.0") == {"train_samples", "eval_samples"}


def started(tmp_path: Path, cubes: Path, **environment: str) -> subprocess.Popen[str]:
    """A run of many epochs, in a process group of its own, once it trains."""
    variables = {"DATASET_DIR": str(cubes), "LOG_DIR": str(tmp_path), **SMALL_RUN, "MAX_EPOCHS": "5000"}
    run = subprocess.Popen(
        [str(ROOT / "run_and_time.sh"), "1"],
        env=os.environ | {"PYTHON": sys.executable} | variables | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    log, deadline = tmp_path / "unet3d.log", time.monotonic() + 120
    while not log.exists() or '"eval_stop"' not in log.read_text():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return run


@pytest.mark.parametrize(
    ("number", "nproc", "status"),
    [(signal.SIGINT, "1", 130), (signal.SIGTERM, "2", 143), (signal.SIGUSR1, "2", 138)],
)
def test_a_signal_ends_the_run_and_all_that_it_started(
    cubes: Path, tmp_path: Path, number: signal.Signals, nproc: str, status: int
) -> None:
    run = started(tmp_path, cubes, NPROC=nproc)
    run.send_signal(number)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == status
    assert "RESULT" not in out
    assert '"status": "aborted"' in (tmp_path / "unet3d.log").read_text().splitlines()[-1]
    assert processes_naming(str(tmp_path)) == []


def test_a_rank_that_ends_early_is_named_last(cubes: Path, tmp_path: Path) -> None:
    """Also in a file, which the ranks and the script write to through descriptors of their own."""
    said = tmp_path / "said"
    variables = {"DATASET_DIR": str(cubes), "LOG_DIR": str(tmp_path), "PYTHON": sys.executable, **SMALL_RUN}
    variables |= {"NPROC": "2", "EVAL_RANKS": "2"}
    with said.open("w") as file:
        done = subprocess.run(
            [str(ROOT / "run_and_time.sh"), "1"], env=os.environ | variables,
            stdout=subprocess.DEVNULL, stderr=file, timeout=280, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    *ranks, last = said.read_text().splitlines()
    reason = f"ended first, with status 1; its report is in {tmp_path}/torchrun_0.txt"
    assert last in {f"run_and_time.sh: error: rank {rank} {reason}" for rank in (0, 1)}
    sentence = "main.py: error: --eval_ranks 2 of 2 ranks leaves none to train; start more, or lower it"
    assert set(ranks) == {sentence}
    assert "Root Cause" in (tmp_path / "torchrun_0.txt").read_text()


def test_ranks_meet_where_they_can(cubes: Path, tmp_path: Path) -> None:
    where = {"DATASET_DIR": str(cubes), "LOG_DIR": str(tmp_path), **SMALL_RUN, "NPROC": "2"}
    done = run_and_time(1, **where, NNODES="2")
    assert done.returncode == 1
    assert "NNODES=2 needs MASTER_ADDR and MASTER_PORT" in done.stderr
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = str(taken.getsockname()[1])
        done = run_and_time(1, **where, MASTER_PORT=port)
    assert done.returncode == 1
    assert f"MASTER_PORT {port} is in use on this machine" in done.stderr
    assert not (tmp_path / "unet3d.log").exists()


def test_a_folder_that_cannot_be_written_to_is_one_sentence(cubes: Path) -> None:
    done = run_and_time(1, DATASET_DIR=str(cubes), LOG_DIR="/proc/results", **SMALL_RUN)
    assert done.returncode == 1
    assert done.stderr.startswith("run_and_time.sh: error: LOG_DIR /proc/results cannot be made")


def test_a_closed_run_is_judged_before_anything_else(cubes: Path, tmp_path: Path) -> None:
    done = run_and_time(
        1, DATASET_DIR=str(cubes), LOG_DIR=str(tmp_path), **SMALL_RUN, MLPERF_DIVISION="closed"
    )
    assert done.returncode == 1
    assert "--mlperf_division open" in done.stderr
    assert "STARTING" not in done.stdout
    assert not (tmp_path / "unet3d.log").exists()


def test_a_signal_ends_a_bare_series(cubes: Path, tmp_path: Path) -> None:
    series = {"DATADIR": str(cubes), "LOGDIR": str(tmp_path), "NEXP": "2", "SEEDS": "5 6"}
    variables = {**SMALL_RUN, "MAX_EPOCHS": "5000", "PYTHON": sys.executable, **series}
    launcher = subprocess.Popen(
        [str(ROOT / "launch" / "run_bare.sh"), "cpu_phantom"], env=os.environ | variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    log, deadline = tmp_path / "run_0" / "unet3d.log", time.monotonic() + 120
    while not log.exists() or '"eval_stop"' not in log.read_text():
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.send_signal(signal.SIGTERM)
    out, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 143
    assert "0 of 2 runs have a result" in out
    assert '"status": "aborted"' in log.read_text().splitlines()[-1]
    assert "epoch 1: mean Dice" in (tmp_path / "run_0" / "output.txt").read_text()
    assert not (tmp_path / "run_1").exists()
    assert processes_naming(str(tmp_path)) == []
