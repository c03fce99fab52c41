"""How few bytes a patch can be had for: a bound for every reader of ``.npy`` volumes."""

import math
import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipelines.cases import Case
from pipelines.draw import DrawConfig, Shape, draw
from pipelines.errors import DataError
from pipelines.npy_header import read_header


def header(path: Path) -> tuple[Shape, int, int]:
    """((D, H, W), bytes of a voxel, bytes before the first) of a 1 x D x H x W ``.npy`` file.

    Raises:
        DataError: it is none.
    """
    with path.open("rb") as file:
        try:
            shape, _, dtype, offset = read_header(file)
        except ValueError as error:
            raise DataError(f"{path} is no .npy file ({error}): preprocess it again") from error
    if len(shape) != 4:
        raise DataError(f"{path} has shape {shape}, expected (1, D, H, W): preprocess it again")
    return shape[1:], dtype.itemsize, offset


def page_bytes(start: Shape, patch: Shape, volume: Shape, itemsize: int, offset: int) -> int:
    """Bytes of the pages that hold a voxel of a patch; ``offset`` is where the volume begins in its file."""
    z, y = np.meshgrid(*(np.arange(patch[axis]) + start[axis] for axis in (0, 1)), indexing="ij")
    rows = offset + (((z * volume[1] + y) * volume[2] + start[2]) * itemsize).ravel()
    first, last = rows // mmap.PAGESIZE, (rows + patch[2] * itemsize - 1) // mmap.PAGESIZE
    # Rows come in the order of the file; a page that two of them share counts with the first.
    first[1:] = np.maximum(first[1:], last[:-1] + 1)
    return int((last - first + 1).sum()) * mmap.PAGESIZE


def bounds(cases: Iterable[Case], patch: int) -> dict[str, float]:
    """Bytes per image, image and label together, averaged over one unbiased patch of each case.

    Returns:
        ``patch``: the voxels themselves. ``pages``: the pages that they lie in. ``case``: the whole files.
    """
    config = DrawConfig(patch_shape=(patch,) * 3, oversampling=0)
    found: list[tuple[int, int, int]] = []
    for position, case in enumerate(cases):
        headers = [header(path) for path in (case.image, case.label)]
        volume = headers[0][0]
        window = draw(config, seed=0, epoch=1, sample=position, volume_shape=volume, boxes=lambda: ())[0]
        voxels = math.prod(window.shape) * sum(itemsize for _, itemsize, _ in headers)
        pages = sum(page_bytes(window.start, window.shape, *of_file) for of_file in headers)
        found.append((voxels, pages, case.image.stat().st_size + case.label.stat().st_size))
    means = np.mean(found, axis=0).tolist()
    return dict(zip(("patch", "pages", "case"), means, strict=True))
