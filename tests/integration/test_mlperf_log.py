"""The official compliance checker on the logs of real runs."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, SMALL, python, succeed

RULESETS = ("1.0.0", "4.0.0")
TEST = ("--mlperf_division", "closed-test", "--caches_cleared", "yes")


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
    flags = (*SMALL, *TEST, "--mlperf_ruleset", ruleset)
    succeed("main.py", "--data_dir", cubes, *flags, "--log_dir", tmp_path)
    assert faults(tmp_path / "unet3d.log", ruleset) == {"train_samples", "eval_samples", "eval_accuracy"}


def test_a_cache_clear_is_logged_only_after_one(cubes: Path, tmp_path: Path) -> None:
    succeed(
        "main.py",
        "--data_dir",
        cubes,
        *SMALL,
        "--log_dir",
        tmp_path,
        *TEST[:2],
        "--caches_cleared",
        "refused",
    )
    keys = [json.loads(line[9:])["key"] for line in (tmp_path / "unet3d.log").read_text().splitlines()]
    assert "cache_clear" not in keys
    assert keys[0] == "cache_clear_not_permitted"
    assert "cache_clear" in faults(tmp_path / "unet3d.log", "4.0.0")


def test_no_data_is_touched_before_the_clock_starts(cubes: Path, tmp_path: Path) -> None:
    done = python("main.py", "--data_dir", tmp_path / "nowhere", *SMALL, "--log_dir", tmp_path)
    assert done.returncode == 1
    keys = [json.loads(line[9:])["key"] for line in (tmp_path / "unet3d.log").read_text().splitlines()]
    assert keys[-2:] == ["run_start", "run_stop"]


TOUCHES = """
import os, runpy, sys

data, log, seen = os.path.realpath(sys.argv[1]), sys.argv[2], []


def touched(event, arguments):
    if seen or event not in ("open", "os.listdir", "os.scandir") or not isinstance(arguments[0], str):
        return
    if os.path.realpath(arguments[0]).startswith(data):
        seen.append(event)
        with open(log) as file:
            print("first touch after:", file.read().splitlines()[-1], flush=True)


sys.addaudithook(touched)
sys.argv = sys.argv[2:]
sys.argv[0] = "main.py"
runpy.run_path("main.py", run_name="__main__")
"""


def test_data_is_touched_on_the_clock_alone(cubes: Path, tmp_path: Path) -> None:
    """With all that gets ready before it: warm-up, and a loader that keeps volumes."""
    output = succeed(
        "-c", TOUCHES, cubes, tmp_path / "unet3d.log", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path,
        "--untimed_warmup_steps", 2, "--loader", "dali", "--data_cache", "device", "--start_eval_at", 1000,
    )  # fmt: skip
    (line,) = re.findall("first touch after: (.*)", output)
    assert '"key": "run_start"' in line


def test_the_log_of_a_killed_run_is_whole_up_to_the_kill(cubes: Path, tmp_path: Path) -> None:
    log = tmp_path / "unet3d.log"
    arguments = ("--data_dir", str(cubes), *SMALL, "--log_dir", str(tmp_path), "--epochs", "1000")
    run = subprocess.Popen([sys.executable, "main.py", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not log.exists() or log.read_text().count('"eval_stop"') < 2:
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        run.kill()
        run.wait()
    text = log.read_text()
    assert text.endswith("}\n")
    keys = [json.loads(line.removeprefix(":::MLLOG "))["key"] for line in text.splitlines()]
    assert keys.count("eval_accuracy") >= 2
    assert keys.count("tracked_stats") >= 2
    assert "run_stop" not in keys
