"""Resample, normalise and pad one volume, plane by plane; no input or output.

NIfTI stores axis 0 (the slices) fastest and axis 2 slowest, so a file arrives as planes of constant w. The
interpolation of ``torch.nn.functional.interpolate`` over three axes is the one along w, then h, then d, each
rounded to float32 on its own. Taking the three steps one after the other therefore gives the same bits, lets
the first two run on each plane as it is decompressed, and keeps only what they leave: neither the raw volume
nor the output is ever whole in memory. ``rounds_like_interpolate`` checks the claim on the running build.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from preprocess.geometry import Shape3, Widths3, linear_taps, nearest_index
from preprocess.spec import CLIP_MAX_HU, CLIP_MIN_HU, MEAN_HU, STDDEV_HU

FloatPlane = npt.NDArray[np.float32]
LabelPlane = npt.NDArray[np.uint8]

_BLOCK = 16
"""Planes gathered before they are transposed: 16 float32 fill one cache line of the result."""


def resample_image(planes: Iterable[FloatPlane], shape_in: Shape3, shape_out: Shape3) -> Iterator[FloatPlane]:
    """Trilinear resampling with aligned corners.

    Args:
        planes: the ``W`` planes of the volume in order, each ``(H, D)`` float32, finite, and unchanged until
            the plane after the next is asked for.
        shape_in: ``(D, H, W)`` of the input.
        shape_out: ``(D', H', W')`` of the output.

    Yields:
        The ``D'`` slabs of the output in order, each ``(H', W')`` float32. One buffer is used for all: a
        slab may be changed in place, and is overwritten when the next is asked for.
    """
    depth, height, width = shape_out
    reduced = torch.from_numpy(np.empty((shape_in[0], height, width), np.float32))
    block = torch.empty(_BLOCK, height, shape_in[0])
    rows = linear_taps(shape_in[1], height)
    row0, row1 = torch.from_numpy(rows.i0), torch.from_numpy(rows.i1)
    weight0, weight1 = torch.from_numpy(rows.w0)[:, None], torch.from_numpy(rows.w1)[:, None]
    for w, plane in enumerate(_along_width(planes, shape_in[2], width)):
        k = w % _BLOCK
        torch.index_select(plane, 0, row1, out=block[k])
        block[k].mul_(weight1).addcmul_(plane.index_select(0, row0), weight0)
        if k == _BLOCK - 1 or w == width - 1:
            reduced[:, :, w - k : w + 1] = block[: k + 1].permute(2, 1, 0)
    del block
    slab = torch.empty(height, width)
    slices = linear_taps(shape_in[0], depth)
    for d in range(depth):
        torch.mul(reduced[slices.i1[d]], float(slices.w1[d]), out=slab)
        yield slab.add_(reduced[slices.i0[d]], alpha=float(slices.w0[d])).numpy()


def _along_width(planes: Iterable[FloatPlane], width_in: int, width_out: int) -> Iterator[torch.Tensor]:
    """The planes interpolated along w, each ``(H, D)``. Reads all planes, so that the file's end is seen."""
    taps = linear_taps(width_in, width_out)
    previous = current = torch.empty(0)
    w = 0
    for index, plane in enumerate(planes):
        previous, current = current, torch.from_numpy(plane)
        while w < width_out and taps.i1[w] == index:
            near = current if taps.i0[w] == index else previous
            # The order of the terms decides which product is rounded where multiply and add are fused.
            yield torch.mul(current, float(taps.w1[w])).add_(near, alpha=float(taps.w0[w]))
            w += 1


def resample_label(planes: Iterable[LabelPlane], shape_in: Shape3, shape_out: Shape3) -> LabelPlane:
    """Nearest resampling of labels.

    Args:
        planes: the ``W`` planes of the volume in order, each ``(H, D)`` uint8.
        shape_in: ``(D, H, W)`` of the input.
        shape_out: ``(D', H', W')`` of the output.

    Returns:
        uint8 of shape ``shape_out``, C order.
    """
    depth, height, width = shape_out
    result = np.empty(shape_out, np.uint8)
    block = np.empty((_BLOCK * 4, height, depth), np.uint8)
    wanted = np.searchsorted(nearest_index(shape_in[2], width), np.arange(shape_in[2] + 1))
    rows, slices = nearest_index(shape_in[1], height), nearest_index(shape_in[0], depth)
    start = filled = 0
    for index, plane in enumerate(planes):
        copies = int(wanted[index + 1] - wanted[index])
        if copies:
            small = plane.take(rows, axis=0).take(slices, axis=1)
        for _ in range(copies):
            block[filled] = small
            filled += 1
            if filled == len(block) or start + filled == width:
                result[:, :, start : start + filled] = block[:filled].transpose(2, 1, 0)
                start, filled = start + filled, 0
    return result


def normalise(slab: FloatPlane) -> FloatPlane:
    """Clip to the window of the specification and normalise, in place, in float32; returns ``slab``."""
    np.clip(slab, np.float32(CLIP_MIN_HU), np.float32(CLIP_MAX_HU), out=slab)
    slab -= np.float32(MEAN_HU)
    slab /= np.float32(STDDEV_HU)
    return slab


def pad_slabs(slabs: Iterable[FloatPlane], widths: Widths3) -> Iterator[FloatPlane]:
    """The slabs ``(H, W)`` of a volume with its edge values repeated by ``widths`` along all three axes."""
    before, after = widths[0]
    last: FloatPlane | None = None
    for slab in slabs:
        padded = np.pad(slab, widths[1:], mode="edge") if any(map(any, widths[1:])) else slab
        for _ in range(before):
            yield padded
        before = 0
        yield padded
        last = padded
    for _ in range(after if last is not None else 0):
        assert last is not None
        yield last


def rounds_like_interpolate() -> bool:
    """Whether ``resample_image`` gives the bits of ``torch.nn.functional.interpolate`` here."""
    shape_in, shape_out = (9, 37, 41), (14, 23, 29)
    volume = (
        (400 * np.sin(0.37 * np.arange(np.prod(shape_in))) + 50).astype(np.float32).reshape(shape_in[::-1])
    )
    ours = np.stack([slab.copy() for slab in resample_image(volume, shape_in, shape_out)])
    whole = torch.from_numpy(volume.transpose(2, 1, 0))[None, None]
    theirs = torch.nn.functional.interpolate(whole, size=shape_out, mode="trilinear", align_corners=True)
    return bool(np.array_equal(ours, theirs[0, 0].numpy()))
