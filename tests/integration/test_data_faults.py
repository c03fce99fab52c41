"""A case that goes bad: the run stops with a sentence, or another case stands in and all is counted."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import SMALL, python
from tests.integration.test_distributed import TORCHRUN


@pytest.fixture
def with_nan(cubes: Path, tmp_path: Path) -> Path:
    """The data set with one NaN in a training case."""
    data = tmp_path / "data"
    shutil.copytree(cubes, data)
    image = np.load(data / "case_00001_x.npy", mmap_mode="r+")
    image[0, 16, 16, 16] = np.nan
    return data


FLAGS = (*SMALL, "--input_shape", 32, 32, 32, "--learning_rate", 0.01, "--start_eval_at", 9)


def test_a_bad_case_stops_the_run_by_name(with_nan: Path, tmp_path: Path) -> None:
    done = python("main.py", "--data_dir", with_nan, *FLAGS, "--log_dir", tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"main.py: error: {with_nan}/case_00001_x.npy")
    assert "not finite" in line
    assert '"status": "aborted"' in (tmp_path / "unet3d.log").read_text().splitlines()[-1]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_bad_case_is_replaced_named_and_counted(with_nan: Path, tmp_path: Path, ranks: int) -> None:
    flags = ("--on_bad_case", "skip", "--epochs", 2, "--batch_size", 2 // ranks)
    launcher = TORCHRUN if ranks > 1 else ()
    done = python(
        *launcher, "main.py", "--data_dir", with_nan, *FLAGS, *flags, "--log_dir", tmp_path,
        OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (warning,) = re.findall("^warning: .*$", done.stdout, re.MULTILINE)
    assert warning.startswith("warning: case_00001 is bad, other samples take its place: ")
    assert "2 samples of 1 bad cases were replaced\n" in done.stdout, "one in each epoch"
    events = [json.loads(line[9:]) for line in (tmp_path / "unet3d.log").read_text().splitlines()]
    (bad,) = (event for event in events if event["key"] == "bad_case")
    assert bad["value"] == "case_00001"
    assert "not finite" in bad["metadata"]["reason"]


def test_a_lost_loss_names_samples_that_can_be_looked_at(cubes: Path, tmp_path: Path) -> None:
    done = python("main.py", "--data_dir", cubes, *FLAGS, "--log_dir", tmp_path, "--learning_rate", 1e38)
    assert done.returncode == 3
    (line,) = re.findall("^the loss of step .*$", done.stdout, re.MULTILINE)
    found = re.search(
        r"step 2 of epoch 1 is nan: .* (case_\d+) \(index 2\), .*(-m benchmark replay .*)$", line
    )
    assert found
    shown = python(*found[2].split(), "--out", tmp_path / "patch")
    assert shown.returncode == 0, shown.stderr
    assert found[1] in shown.stdout
