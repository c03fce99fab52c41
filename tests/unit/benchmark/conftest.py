"""A tiny preprocessed data set, and the settings of a comparison on it."""

from pathlib import Path

import pytest

from benchmark.environment import ROOT
from benchmark.peers.contender import Settings
from benchmark.peers.mlperf_reference import find_reference
from benchmark.residency import ResidencyError, drop
from preprocess import phantom
from preprocess.spec import EVALUATION_CASES_FILE

PATCH = 32
TRAINING_CASES = 5


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five training cases and an evaluation case of 40 x 72 x 72 voxels."""
    folder = tmp_path_factory.mktemp("tiny")
    shape = ["--shape", "40", "72", "72"]
    assert phantom.main(["--preprocessed", *shape, "--cases", "6", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def settings(tiny: Path, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tiny,
        evaluation_cases=EVALUATION_CASES_FILE,
        reference_dir=find_reference(ROOT / ".work" / "reference"),
        cache_dir=tmp_path / "cache",
        patch=PATCH,
        batch_size=2,
        workers=2,
    )


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    """A folder whose files leave the page cache when they are told to."""
    probe = tmp_path / "probe"
    probe.write_bytes(bytes(1 << 16))
    try:
        drop([probe])
    except ResidencyError:
        pytest.skip(f"{tmp_path} keeps its files in memory: set TMPDIR to a folder on a disk")
    return tmp_path
