"""Cases that are bad: how they become so, and the ways from the files to a batch."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines.base import Batch, Position, Shard
from pipelines.config import LoaderConfig
from pipelines.data_loader import build, schedule
from tests.unit.pipelines.loaders import CPU, ONE

WAYS: dict[str, dict[str, object]] = {
    "in this process": {"num_workers": 0},
    "workers": {"num_workers": 2, "prefetch": 1},
    "workers, host cache": {"num_workers": 2, "prefetch": 1, "data_cache": "host"},
    "dali": {"loader": "dali", "num_workers": 1, "prefetch": 1},
    "dali, host cache": {"loader": "dali", "num_workers": 2, "prefetch": 1, "data_cache": "host"},
    "dali, device cache": {"loader": "dali", "num_workers": 1, "prefetch": 1, "data_cache": "device"},
}
CASES = 16
"""Of which the evaluation takes number 15: the numbers of training cases are their places."""
BAD = 5


def image_of(folder: Path, number: int = BAD) -> Path:
    return folder / f"case_{number:05d}_x.npy"


def label_of(folder: Path, number: int = BAD) -> Path:
    return folder / f"case_{number:05d}_y.npy"


def spoil_image(folder: Path, value: float = np.nan) -> None:
    image = np.load(image_of(folder))
    image[...] = value
    np.save(image_of(folder), image)


def spoil_label(folder: Path) -> None:
    np.save(label_of(folder), np.full_like(np.load(label_of(folder)), 3))


def cut(folder: Path) -> None:
    os.truncate(image_of(folder), 1000)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "nan": (spoil_image, "case_00005_x.npy.* holds values that are not finite"),
    "infinity": (lambda folder: spoil_image(folder, -np.inf), "case_00005_x.npy.* not finite"),
    "classes": (spoil_label, "case_00005_y.npy: a label of class 3, expected 0 to 2"),
}


def replaced(config: LoaderConfig, count: int, begin: int = 0, shard: Shard = ONE) -> int:
    """Samples of the bad case in batches ``begin`` to ``count``."""
    steps = itertools.islice(schedule(config, shard).steps(Position()), begin, count)
    return sum(step.cases.count(BAD) for step in steps)


def run(config: LoaderConfig, count: int, start: Position | None = None) -> tuple[list[Batch], object]:
    loader = build(config, ONE, CPU, start or Position())
    try:
        batches = [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(loader, count)]
        return batches, loader.bad_cases
    finally:
        loader.close()
