"""``run_and_time.sh`` as people who run MLPerf use it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, dice_scores
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
        3, timeout=600, DATASET_DIR=str(phantom), LOG_DIR=str(tmp_path), CLEAR_CACHES="0", LAYOUT="NDHWC",
        FILTERS="8 16 32 64 80", INPUT_SHAPE="64 64 64", VAL_INPUT_SHAPE="64 64 64", NUM_WORKERS="2",
        LEARNING_RATE="0.3", LR_WARMUP_EPOCHS="10", START_EVAL_AT="30", EVALUATE_EVERY="10",
        MAX_EPOCHS="150", EXTRA_PARAMS="--caches_cleared yes",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "reached after epoch" in done.stdout
    assert dice_scores(done.stdout)[-1] >= 0.908
    kidneys = [float(score) for score in re.findall(r"kidney ([\d.]+)", done.stdout)]
    assert max(kidneys) >= 0.9
    assert '"status": "success"' in (tmp_path / "unet3d.log").read_text()
    # Six cases are too few for the rules, and that is all there is to fault.
    assert faults(tmp_path / "unet3d.log", "4.0.0") == {"train_samples", "eval_samples"}
