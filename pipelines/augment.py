"""What an augmentation does to a patch, in memory: the meaning that every loader's fast path must match.

The order is the MLPerf reference's: crop, flip, brightness, noise. All of it is deterministic; the random
choices are made in ``draw``.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.draw import Augmentation, CropWindow, Shape

_Scalar = TypeVar("_Scalar", bound=np.generic)

_PLANES = 8
"""Planes converted at a time: 256 KiB of float16 where they measure 128 x 128."""

_NOISE_CHUNK = 1 << 16
"""Voxels of noise made at a time (256 KiB), so that they are added while still in the cache."""


def crop(volume: NDArray[_Scalar], window: CropWindow) -> NDArray[_Scalar]:
    """The window of a D x H x W volume, as a view."""
    return volume[tuple(slice(a, a + n) for a, n in zip(window.start, window.shape, strict=True))]


def apply(
    image: NDArray[Any],
    label: NDArray[np.uint8],
    augmentation: Augmentation,
    out_image: NDArray[np.float32],
    out_label: NDArray[np.uint8],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write the augmented patch into ``out_image`` (C-contiguous) and ``out_label``.

    All arrays are D x H x W and of equal shape; ``image`` is float32 or float16. The patch is read once and
    all three flips are part of that one copy; brightness and noise cost nothing where they were not drawn.
    The brightness factor is rounded to float32 before the product (the reference multiplies in float64 and
    rounds after: at most one unit in the last place apart). ``check`` is called when the patch is written and
    its values are still those of the volume; it may raise.
    """
    flipped = tuple(slice(None, None, -1 if flip else 1) for flip in augmentation.flips)
    copy(image[flipped], out_image)
    out_label[...] = label[flipped]
    check()
    if augmentation.brightness != 1.0:
        np.multiply(out_image, np.float32(augmentation.brightness), out=out_image)
    if augmentation.noise_sigma != 0.0:
        flat = out_image.reshape(-1, copy=False)
        for begin, part in _noise(flat.size, augmentation.noise_sigma, augmentation.noise_seed):
            # The sum is numpy's: torch would start threads for it, in a worker that has one core.
            flat[begin : begin + part.size] += part


def copy(source: NDArray[Any], out: NDArray[Any]) -> None:
    """``out[...] = source``, rounding to nearest where ``out``, C-contiguous, is of lower precision."""
    if source.dtype == out.dtype:
        out[...] = source
    else:
        # torch converts between float16 and float32 ten times as fast as numpy, but knows no negative strides
        # and no read-only memory: a few planes at a time go through a copy that stays in the cache.
        for begin in range(0, len(source), _PLANES):
            part = torch.from_numpy(source[begin : begin + _PLANES].copy())
            torch.from_numpy(out[begin : begin + _PLANES]).copy_(part)


def noise_of(augmentation: Augmentation, shape: Shape) -> NDArray[np.float32]:
    """What ``apply`` adds to a patch of ``shape`` with a drawn noise, as D x H x W float32."""
    whole = np.empty(shape, dtype=np.float32)
    flat = whole.reshape(-1)
    for begin, part in _noise(flat.size, augmentation.noise_sigma, augmentation.noise_seed):
        flat[begin : begin + part.size] = part
    return whole


def _noise(count: int, sigma: float, seed: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Pieces of ``count`` values, each with its place; a piece is valid until the next."""
    # torch's normals take a third of the time of numpy's (6 against 18 ms for 128^3): they are vectorised.
    # Their last bits may depend on the CPU's instruction set, so a run resumes exactly on like machines.
    generator = torch.Generator().manual_seed(seed)
    buffer = torch.empty(min(_NOISE_CHUNK, count))
    for begin in range(0, count, _NOISE_CHUNK):
        piece = buffer[: min(_NOISE_CHUNK, count - begin)].normal_(generator=generator).numpy()
        piece *= np.float32(sigma)
        yield begin, piece
