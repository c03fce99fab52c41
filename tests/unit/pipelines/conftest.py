"""A small preprocessed data set: seven training and three evaluation cases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.data_loader import LoaderConfig
from tests.unit.pipelines.dataset import EVALUATION, PATCH, write_case


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preprocessed")
    for number in range(10):
        write_case(folder, number, (20 + number, 16 + number % 3, 12 + number % 5))
    (folder / "evaluation_cases.txt").write_text("".join(f"{n:05d}\n" for n in EVALUATION))
    return folder


@pytest.fixture
def config(data_dir: Path) -> LoaderConfig:
    return LoaderConfig(
        data_dir=data_dir,
        evaluation_cases=data_dir / "evaluation_cases.txt",
        input_shape=PATCH,
        batch_size=2,
        oversampling=0.5,
        seed=3,
        num_workers=0,
    )


@pytest.fixture
def stored_half(data_dir: Path, tmp_path: Path, config: LoaderConfig) -> LoaderConfig:
    """The same data set with images stored as float16."""
    for path in data_dir.glob("*.npy"):
        array = np.load(path)
        np.save(tmp_path / path.name, array.astype(np.float16) if path.name.endswith("_x.npy") else array)
    return replace(config, data_dir=tmp_path)
