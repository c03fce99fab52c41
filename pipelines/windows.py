"""Which windows cover an evaluation volume, by the MLPerf reference's rules of crop and pad.

Pure functions of shapes: inference runs the windows, and loaders share cases among ranks by their number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product


def crop_margins(size: int, stride: int, window: int) -> tuple[int, int]:
    """Voxels cut from both ends of an axis: an excess below half a stride is dropped, not padded.

    For strides that divide the window this is the reference's rule, ``size % stride``; others leave it
    with voxels that no window covers. An axis shorter than the window, where the reference fails, is kept.
    """
    excess = (size - window) % stride if size > window else 0
    if excess >= stride // 2:
        excess = 0
    return excess // 2, excess - excess // 2


def pad_margins(size: int, stride: int, window: int) -> tuple[int, int]:
    """Voxels added to both ends of a cropped axis: up to where the last window ends."""
    missing = window - size if size < window else (window - size) % stride
    return missing // 2, missing - missing // 2


@dataclass(frozen=True)
class WindowPlan:
    """Which part of a volume the windows cover, with what around it, and where they begin."""

    kept: tuple[slice, ...]
    """What of the volume is left after the crop, D, H, W."""
    padding: tuple[tuple[int, int], ...]
    """Voxels added before and after what is kept."""
    axis_starts: tuple[range, ...]
    """First voxels of windows along each axis of the padded volume."""

    @classmethod
    def of(cls, shape: Sequence[int], roi_shape: Sequence[int], overlap: float) -> "WindowPlan":
        """The plan for a volume of ``shape`` and windows of ``roi_shape``, both D x H x W.

        Raises:
            ValueError: ``overlap`` is not in [0, 1) or leaves no stride.
        """
        strides = [int(window * (1 - overlap)) for window in roi_shape]
        if not 0 <= overlap < 1 or min(strides) < 1:
            raise ValueError(f"overlap must be in [0, 1) and leave a stride of a voxel, found {overlap}")
        kept, padding, starts = [], [], []
        for size, stride, window in zip(shape, strides, roi_shape, strict=True):
            low, high = crop_margins(size, stride, window)
            cropped = size - low - high
            pad = pad_margins(cropped, stride, window)
            kept.append(slice(low, size - high))
            padding.append(pad)
            starts.append(range(0, cropped + sum(pad) - window + 1, stride))
        return cls(tuple(kept), tuple(padding), tuple(starts))

    @property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First corners in the padded volume, in the order they are visited."""
        return tuple(product(*self.axis_starts))


def count_windows(shape: Sequence[int], roi_shape: Sequence[int], overlap: float) -> int:
    """How many windows of ``roi_shape`` inference runs on a volume of ``shape``, both D x H x W.

    Raises ValueError as `WindowPlan.of` does.
    """
    return math.prod(len(starts) for starts in WindowPlan.of(shape, roi_shape, overlap).axis_starts)
