"""Which input voxels make an output voxel: shapes, paddings, interpolation taps. Needs numpy only.

The taps repeat, in float32, the index arithmetic of ``torch.nn.functional.interpolate`` on the CPU, because
the published md5 of a label (and of an image) depends on every last bit of it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.errors import CaseError
from preprocess.spec import MIN_SHAPE, TARGET_SPACING_MM

Shape3 = tuple[int, int, int]
Spacing3 = tuple[float, float, float]
Widths3 = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis: ``out[k] = w0[k] * in[i0[k]] + w1[k] * in[i1[k]]``.

    ``i0`` and ``i1`` are int64, ``w0`` and ``w1`` float32, all of the length of the output axis; ``i0`` never
    decreases, and ``i1`` is ``i0 + 1`` except at the far edge, where it is ``i0``.
    """

    i0: npt.NDArray[np.int64]
    i1: npt.NDArray[np.int64]
    w0: npt.NDArray[np.float32]
    w1: npt.NDArray[np.float32]


def linear_taps(length_in: int, length_out: int) -> Taps:
    """The taps of linear interpolation with ``align_corners=True`` from one axis length to another."""
    scale = np.float32(length_in - 1) / np.float32(length_out - 1) if length_out > 1 else np.float32(0)
    position = scale * np.arange(length_out, dtype=np.float32)
    i0 = np.minimum(position.astype(np.int64), length_in - 1)
    w1 = np.clip(position - i0.astype(np.float32), np.float32(0), np.float32(1))
    return Taps(i0, np.minimum(i0 + 1, length_in - 1), np.float32(1) - w1, w1)


def nearest_index(length_in: int, length_out: int) -> npt.NDArray[np.int64]:
    """The input index of every output voxel in ``mode="nearest"`` (which rounds down), int64."""
    scale = np.float32(length_in) / np.float32(length_out)
    position = scale * np.arange(length_out, dtype=np.float32)
    return np.minimum(position.astype(np.int64), length_in - 1)


def resampled_shape(shape: Shape3, spacing: Spacing3) -> Shape3:
    """The shape of a volume of ``shape`` voxels of ``spacing`` mm after resampling to the target spacing.

    Computed in float64 and rounded down, as the reference does.

    Raises:
        CaseError: an axis would have no voxel left.
    """
    result = (np.array(spacing) / np.array(TARGET_SPACING_MM) * np.array(shape)).astype(int)
    depth, height, width = (int(n) for n in result)
    if min(depth, height, width) < 1:
        raise CaseError(
            f"{shape} voxels of {spacing} mm resampled to {TARGET_SPACING_MM} mm leave none along an axis; "
            "check the spacing (pixdim) in the header of imaging.nii.gz"
        )
    return depth, height, width


def padding(shape: Shape3, minimum: Shape3 = MIN_SHAPE) -> Widths3:
    """How many voxels to add before and after each axis so that no axis is shorter than ``minimum``.

    An odd remainder goes after.
    """
    missing = [max(0, least - n) for n, least in zip(shape, minimum, strict=True)]
    d, h, w = ((m // 2, m - m // 2) for m in missing)
    return d, h, w


def padded_shape(shape: Shape3, minimum: Shape3 = MIN_SHAPE) -> Shape3:
    """The shape after ``padding``."""
    d, h, w = (max(n, least) for n, least in zip(shape, minimum, strict=True))
    return d, h, w
