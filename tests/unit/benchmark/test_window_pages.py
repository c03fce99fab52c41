"""The least that a patch can be read with."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from benchmark.peers.contender import Settings
from benchmark.peers.window_pages import bounds, header, page_bytes
from pipelines.errors import DataError


@pytest.mark.parametrize("itemsize", [1, 4])
@pytest.mark.parametrize("volume", [(9, 31, 40), (5, 12, 3000)])
@pytest.mark.parametrize("start", [(0, 0, 0), (1, 7, 13)])
def test_pages_are_those_of_the_voxels(
    itemsize: int, volume: tuple[int, int, int], start: tuple[int, int, int]
) -> None:
    patch, offset = (3, 5, volume[2] // 2), 128
    inside = np.zeros(volume, dtype=bool)
    inside[tuple(slice(a, a + n) for a, n in zip(start, patch, strict=True))] = True
    first = offset + np.flatnonzero(inside) * itemsize
    pages = np.unique(np.concatenate([first, first + itemsize - 1]) // mmap.PAGESIZE)
    assert page_bytes(start, patch, volume, itemsize, offset) == pages.size * mmap.PAGESIZE


def test_bounds_of_the_tiny_cases(settings: Settings) -> None:
    found = bounds(settings.cases(), settings.patch)
    assert found["patch"] == 32**3 * 5
    assert found["case"] == 40 * 72 * 72 * 5 + 2 * 128
    assert found["patch"] < found["pages"] <= found["case"] + 2 * mmap.PAGESIZE


def test_header_of_half_precision(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 4, 5), np.float16))
    assert header(tmp_path / "x.npy") == ((3, 4, 5), 2, 128)


def test_what_is_no_volume_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"hello, this is no array")
    np.save(tmp_path / "b.npy", np.zeros((3, 4)))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(DataError, match=name):
            header(tmp_path / name)
