"""One of two ranks fails, is killed or hangs: the other ends soon, says who and why, and leaves nothing."""

import re
import time
from pathlib import Path

import pytest
import torch

from tests.integration.conftest import ROOT, SMALL, processes_naming, python
from tests.integration.test_distributed import TORCHRUN

SAYS = {
    "raises": "rank {} failed: case_00001_x.npy is not what it was",
    "killed": "rank {} has ended without a word: it was killed, or ran out of memory",
    "stopped": "rank {} has given no sign of life for 3 s (--rank_timeout)",
}


@pytest.mark.parametrize(("fault", "rank"), [("raises", 1), ("killed", 0), ("stopped", 1), ("stopped", 0)])
def test_the_other_rank_names_it_and_ends(cubes: Path, tmp_path: Path, fault: str, rank: int) -> None:
    begin = time.monotonic()
    done = python(
        *TORCHRUN, ROOT / "tests" / "integration" / "fault_once.py", fault, rank, 5, tmp_path,
        "--data_dir", cubes, *SMALL, "--epochs", 9999, "--start_eval_at", 9999, "--log_dir", tmp_path,
        "--save_ckpt_path", tmp_path / "c.pth", "--rank_timeout", 3, OMP_NUM_THREADS="1",
    )  # fmt: skip
    # Of which the most is torch's start; torchrun alone would wait 30 s for a rank that is stopped.
    assert time.monotonic() - begin < 60
    assert done.returncode != 0
    said = re.findall("^main.py: .*$", done.stderr, re.MULTILINE)
    own = "main.py: error: case_00001_x.npy is not what it was"
    assert sorted(said) == sorted(
        [f"main.py: error: {SAYS[fault].format(rank)}", *([own] * (fault == "raises"))]
    )
    assert processes_naming(str(tmp_path)) == []


def test_one_rank_that_is_asked_to_end_takes_the_others_with_it(cubes: Path, tmp_path: Path) -> None:
    done = python(
        *TORCHRUN, ROOT / "tests" / "integration" / "fault_once.py", "asked", 1, 5, tmp_path,
        "--data_dir", cubes, *SMALL, "--epochs", 9999, "--start_eval_at", 9999, "--log_dir", tmp_path,
        "--save_ckpt_path", tmp_path / "c.pth", OMP_NUM_THREADS="1",
    )  # fmt: skip
    said = re.findall("^main.py: .*$", done.stderr, re.MULTILINE)
    assert said == ["main.py: stopped by SIGTERM"] * 2
    checkpoint = torch.load(tmp_path / "c.pth", weights_only=True)
    # Two steps an epoch: asked after the third epoch's first, agreed on after the step that follows.
    assert (checkpoint["last_epoch"], checkpoint["last_step"]) in ((2, 2), (3, 1))
    assert [len(losses) for losses in checkpoint["last_losses"]] == [checkpoint["last_step"]] * 2
