"""A data set to spoil, and every way to read it."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.config import LoaderConfig
from tests.unit.pipelines.data_faults.faults import CASES, WAYS
from tests.unit.pipelines.dataset import write_case


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for number in range(CASES):
        write_case(folder, number, (18 + number % 3, 16, 12))
    (folder / "evaluation_cases.txt").write_text("00015\n")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.fixture
def config(folder: Path) -> LoaderConfig:
    """Seven steps an epoch; seed 71 draws case 5 in batches 6, 12 and 19, counted from 0."""
    return LoaderConfig(
        data_dir=folder,
        evaluation_cases=folder / "evaluation_cases.txt",
        input_shape=(16, 12, 8),
        oversampling=0.5,
        seed=71,
    )


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, object]:
    if WAYS[request.param].get("loader") == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    return WAYS[request.param]


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("planner")]
