"""The official compliance checker on the logs of real runs."""

import json
import re
from pathlib import Path

import pytest

from tests.integration.conftest import SMALL, python, succeed

RULESETS = ("1.0.0", "4.0.0")


def faults(log: Path, ruleset: str) -> set[str]:
    """Keys that the official checker faults in a log."""
    report = log.with_suffix(".report")
    done = python(
        "-m", "mlperf_logging.compliance_checker", "--usage", "training", "--ruleset", ruleset,
        "--log_output", report, log,
    )  # fmt: skip
    text = report.read_text()
    found = set(re.findall(r"CHECK for '(\w+)' failed", text))
    found |= set(re.findall(r"Failed checks for (\w+)", text))
    found |= set(re.findall(r"Required \w+(?:\(\w+\))? occurrences? of '(\w+)'", text))
    assert (done.returncode == 0) == (not found), text
    return found


@pytest.mark.parametrize("ruleset", RULESETS)
def test_a_small_data_set_is_faulted_for_its_size_and_score_alone(
    cubes: Path, tmp_path: Path, ruleset: str
) -> None:
    succeed("main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--caches_cleared", "yes")
    assert faults(tmp_path / "unet3d.log", ruleset) == {"train_samples", "eval_samples", "eval_accuracy"}


def test_a_cache_clear_is_logged_only_after_one(cubes: Path, tmp_path: Path) -> None:
    succeed("main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--caches_cleared", "refused")
    keys = [json.loads(line[9:])["key"] for line in (tmp_path / "unet3d.log").read_text().splitlines()]
    assert "cache_clear" not in keys
    assert keys[0] == "cache_clear_not_permitted"
    assert "cache_clear" in faults(tmp_path / "unet3d.log", "4.0.0")


def test_no_data_is_touched_before_the_clock_starts(cubes: Path, tmp_path: Path) -> None:
    done = python("main.py", "--data_dir", tmp_path / "nowhere", *SMALL, "--log_dir", tmp_path)
    assert done.returncode == 1
    keys = [json.loads(line[9:])["key"] for line in (tmp_path / "unet3d.log").read_text().splitlines()]
    assert keys[-2:] == ["run_start", "run_stop"]


@pytest.mark.slow
def test_a_data_set_of_210_cases_is_faulted_for_nothing_but_accuracy(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("full")
    data = folder / "data"
    succeed(
        "-m", "preprocess.phantom", "--preprocessed", "--shape", 32, 32, 32, "--out", data, "--cases", 210
    )
    succeed(
        "main.py",
        "--data_dir",
        data,
        *SMALL,
        "--batch_size",
        7,
        "--log_dir",
        folder,
        "--caches_cleared",
        "yes",
    )
    for ruleset in RULESETS:
        assert faults(folder / "unet3d.log", ruleset) == {"eval_accuracy"}
    log = (folder / "unet3d.log").read_text()
    assert '"epoch_num": 168' in log
