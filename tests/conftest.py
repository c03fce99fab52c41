"""Fixtures and helpers that all tests share."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported: its kernels then run in numpy
# A shared machine's pauses are no failures of the code.
settings.register_profile("voxelrate", deadline=None)
settings.load_profile("voxelrate")


@pytest.fixture(scope="session", autouse=True)
def _server_of_workers() -> None:
    """The first one who needs workers starts their server for all tests, with or without what conversions
    import: let it have that, or every worker of theirs takes a second and a half to begin."""
    from preprocess import pool  # found by the line above that adds to sys.path

    multiprocessing.set_forkserver_preload(["preprocess.case"])
    pool._start_server_ignoring_interrupts()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real labels and golden files beside the checkout, which is not part of it."""
    folder = Path(os.environ.get("VOXELRATE_SHARED", ROOT.parent / "shared"))
    if not (folder / "kits19").is_dir():
        pytest.skip(f"needs the real KiTS19 labels in {folder} (set VOXELRATE_SHARED)")
    return folder
