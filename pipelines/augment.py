"""What an augmentation does to a patch, in memory: the meaning that every loader's fast path must match.

The order is the MLPerf reference's: crop, flip, brightness, noise. All of it is deterministic; the random
choices are made in ``draw``.
"""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.draw import Augmentation, CropWindow

_Scalar = TypeVar("_Scalar", bound=np.generic)

_NOISE_CHUNK = 1 << 16
"""Voxels of noise made at a time (256 KiB), so that they are added while still in the cache."""


def crop(volume: NDArray[_Scalar], window: CropWindow) -> NDArray[_Scalar]:
    """The window of a D x H x W volume, as a view."""
    return volume[tuple(slice(a, a + n) for a, n in zip(window.start, window.shape, strict=True))]


def apply(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    augmentation: Augmentation,
    out_image: NDArray[np.float32],
    out_label: NDArray[np.uint8],
) -> None:
    """Write the augmented patch into ``out_image`` (C-contiguous) and ``out_label``.

    All arrays are D x H x W and of equal shape. The patch is read once and all three flips are part of
    that one copy; brightness and noise cost nothing where they were not drawn. The brightness factor is
    rounded to float32 before the product (the reference multiplies in float64 and rounds after: at most
    one unit in the last place apart).
    """
    flipped = tuple(slice(None, None, -1 if flip else 1) for flip in augmentation.flips)
    out_image[...] = image[flipped]
    out_label[...] = label[flipped]
    if augmentation.brightness != 1.0:
        np.multiply(out_image, np.float32(augmentation.brightness), out=out_image)
    if augmentation.noise_sigma != 0.0:
        _add_noise(out_image, augmentation.noise_sigma, augmentation.noise_seed)


def _add_noise(image: NDArray[np.float32], sigma: float, seed: int) -> None:
    # torch's normals take a third of the time of numpy's (6 against 18 ms for 128^3): they are vectorised.
    # Their last bits may depend on the CPU's instruction set, so a run resumes exactly on like machines.
    generator = torch.Generator().manual_seed(seed)
    # The sum is numpy's: torch would start threads for it, in a worker that has one core.
    flat = image.reshape(-1, copy=False)
    buffer = torch.empty(min(_NOISE_CHUNK, flat.size))
    for begin in range(0, flat.size, _NOISE_CHUNK):
        part = flat[begin : begin + _NOISE_CHUNK]
        noise = buffer[: part.size].normal_(generator=generator).numpy()
        noise *= np.float32(sigma)
        part += noise
