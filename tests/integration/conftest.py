"""Runs of the program as a user starts it, on phantoms made once per test session."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]

SMALL = (
    "--filters", "4", "8", "--input_shape", "16", "16", "16", "--val_input_shape", "32", "32", "32",
    "--num_workers", "1", "--evaluate_every", "1", "--start_eval_at", "1", "--seed", "3",
)  # fmt: skip
"""A network that trains on `cubes` in milliseconds, with a seed that does not diverge."""


def python(*arguments: object, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter at the repository's root."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def succeed(*arguments: object, timeout: float = 300, **environment: str) -> str:
    """Run this interpreter, insist on success, and return standard output."""
    done = python(*arguments, timeout=timeout, **environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def dice_scores(output: str) -> list[float]:
    """Mean Dice of each evaluation that a training run printed."""
    return [float(score) for score in re.findall(r"mean Dice ([\d.]+) ", output)]


def processes_naming(text: str) -> list[int]:
    """The processes whose command line holds ``text``, beside this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if text in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantom cases, from raw NIfTI through preprocessing."""
    folder = tmp_path_factory.mktemp("phantom")
    raw, data = folder / "raw", folder / "data"
    succeed("-m", "preprocess.phantom", "--out", raw, "--cases", 6, "--seed", 1, "--profile", "tiny")
    succeed("preprocess_dataset.py", "--data_dir", raw, "--results_dir", data)
    return data


@pytest.fixture(scope="session")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten preprocessed phantom cases of 32^3 voxels: eight to train on, two to evaluate."""
    data = tmp_path_factory.mktemp("cubes")
    succeed("-m", "preprocess.phantom", "--preprocessed", "--shape", 32, 32, 32, "--out", data, "--cases", 10)
    return data
