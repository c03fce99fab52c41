"""Preprocessed cases of a size for tests."""

from pathlib import Path

import numpy as np

PATCH = (16, 12, 8)
EVALUATION = (1, 4, 8)


def write_case(folder: Path, number: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(number)
    np.save(folder / f"case_{number:05d}_x.npy", rng.standard_normal((1, *shape), dtype=np.float32))
    label = np.zeros((1, *shape), dtype=np.uint8)
    for kind in (1, 2, 1):
        z, y, x = (int(rng.integers(n - 5)) for n in shape)
        label[0, z : z + 5, y : y + 4, x : x + 5] = kind
    np.save(folder / f"case_{number:05d}_y.npy", label)
