"""The kernels of `stem_conv`: matrix products of the voxels' 27 neighbours ("taps"), gathered on the way.

There is one input channel, so a neighbour is a constant number of elements away from its voxel. Images and
weights of any floating dtype are rounded to y's as they are read. A weight's element (co, tap) is at
``co * of_co + tap * of_tap``, the tap counted 9 * depth + 3 * height + width.
"""
# Triton writes what is known at compile time in capitals and leaves the rest to the call.
# ruff: noqa: N803
# mypy: allow-untyped-defs

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.ops import why_no_triton

ROWS = 128
"""Voxels that a program holds at once."""
LEAST, MOST = 16, 64
"""Bounds of the output channels that a program holds: `triton.language.dot` takes no fewer than 16."""
PROGRAMS = 1056
"""As many programs for the weight's gradient as are 8 for each of 132 multiprocessors."""
PARTIAL_BYTES = 2**26
"""At most so much for the partial sums of the weight's gradient."""
MERGE_ELEMENTS = 4096
"""Partial sums that a merging program holds at once."""
MAX_VOXELS = 2**30
"""Voxel numbers are 32-bit (element offsets of many channels are 64-bit)."""


@triton.jit
def _neighbours(x, voxel, tap, voxels, depth, height, width):
    """A row of 32 taps per voxel, zeros outside of the image and for taps 27 to 31."""
    w, h, d = voxel % width, voxel // width % height, voxel // width // height % depth
    # A bit per tap: an octal digit is a row of three along the width, three digits are a slab.
    exists = tl.where(voxel < voxels, 0o777_777_777, 0)
    exists = tl.where(d == 0, exists & 0o777_777_000, exists)
    exists = tl.where(d == depth - 1, exists & 0o000_777_777, exists)
    exists = tl.where(h == 0, exists & 0o770_770_770, exists)
    exists = tl.where(h == height - 1, exists & 0o077_077_077, exists)
    exists = tl.where(w == 0, exists & 0o666_666_666, exists)
    exists = tl.where(w == width - 1, exists & 0o333_333_333, exists)
    away = (tap // 9 - 1) * height * width + (tap // 3 % 3 - 1) * width + tap % 3 - 1
    inside = (exists[:, None] >> tap[None, :]) & 1 != 0
    return tl.load(x + voxel[:, None] + away[None, :], mask=inside, other=0.0)


@triton.jit
def stem_conv_forward(
    x,
    weight,
    y,
    voxels,
    depth,
    height,
    width,
    of_co,
    of_tap,
    CO: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    tiles: tl.constexpr = (CO + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    voxel = program // tiles * ROWS + tl.arange(0, ROWS)
    co = program % tiles * COLUMNS + tl.arange(0, COLUMNS)
    tap = tl.arange(0, 32)
    dtype = y.dtype.element_ty
    rows = _neighbours(x, voxel, tap, voxels, depth, height, width).to(dtype)
    at = (tap * of_tap)[:, None] + (co * of_co)[None, :]
    matrix = tl.load(weight + at, mask=(tap < 27)[:, None] & (co < CO)[None, :], other=0.0).to(dtype)
    total = tl.dot(rows, matrix, input_precision="ieee")
    to = (voxel.to(tl.int64) * CO)[:, None] + co[None, :]
    tl.store(y + to, total.to(dtype), mask=(voxel < voxels)[:, None] & (co < CO)[None, :])


@triton.jit
def stem_conv_backward_weight(
    dy,
    x,
    partial,
    voxels,
    depth,
    height,
    width,
    CO: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """A chunk of voxels' share of the gradient, 27 x Co."""
    tiles: tl.constexpr = (CO + COLUMNS - 1) // COLUMNS
    chunk = tl.program_id(0) // tiles
    co = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    tap = tl.arange(0, 32)
    total = tl.zeros((32, COLUMNS), tl.float32)
    for k in range(0, CHUNK, ROWS):
        voxel = chunk * CHUNK + k + tl.arange(0, ROWS)
        at = (voxel.to(tl.int64) * CO)[:, None] + co[None, :]
        grad = tl.load(dy + at, mask=(voxel < voxels)[:, None] & (co < CO)[None, :], other=0.0)
        rows = _neighbours(x, voxel, tap, voxels, depth, height, width).to(grad.dtype)
        total = tl.dot(tl.trans(rows), grad, total, input_precision="ieee")
    to = partial + chunk.to(tl.int64) * 27 * CO + (tap * CO)[:, None] + co[None, :]
    tl.store(to, total, mask=(tap < 27)[:, None] & (co < CO)[None, :])


@triton.jit
def stem_conv_merge(
    partial,
    dweight,
    of_co,
    of_tap,
    CO: tl.constexpr,
    CHUNKS: tl.constexpr,
    PARTS: tl.constexpr,
    ELEMENTS: tl.constexpr,
):
    """Sum the chunks' shares, always in the same order."""
    element = tl.program_id(0) * ELEMENTS + tl.arange(0, ELEMENTS)
    used = element < 27 * CO
    total = tl.zeros((ELEMENTS,), tl.float32)
    for first in range(0, CHUNKS, PARTS):
        chunk = first + tl.arange(0, PARTS)
        at = (chunk.to(tl.int64) * 27 * CO)[:, None] + element[None, :]
        share = tl.load(partial + at, mask=(chunk < CHUNKS)[:, None] & used[None, :], other=0.0)
        total += tl.sum(share, axis=0)
    to = element % CO * of_co + element // CO * of_tap
    tl.store(dweight + to, total.to(dweight.dtype.element_ty), mask=used)


def columns_of(co: int) -> int:
    """Output channels that a program holds."""
    return min(MOST, max(LEAST, triton.next_power_of_2(co)))


def chunk_of(voxels: int, co: int) -> int:
    """Voxels per chunk of the weight's gradient: chunks fill the GPU, within ``PARTIAL_BYTES``."""
    chunks = min(triton.cdiv(PROGRAMS, triton.cdiv(co, columns_of(co))), PARTIAL_BYTES // (27 * co * 4))
    return ROWS * triton.cdiv(triton.cdiv(voxels, max(1, chunks)), ROWS)


def _check(x: Tensor) -> None:
    """Raise ValueError where kernels cannot run on x's device, or of too many voxels."""
    reason = why_no_triton(x.device)
    if reason is not None:
        raise ValueError(reason)
    if x.numel() > MAX_VOXELS:
        raise ValueError(f"the kernels count up to {MAX_VOXELS} voxels, found {x.numel()}")


def forward(x: Tensor, weight: Tensor, out_dtype: torch.dtype) -> Tensor:
    """As in reference.py, of a contiguous x. One launch."""
    _check(x)
    n, _, *volume = x.shape
    co, columns = len(weight), columns_of(len(weight))
    y = torch.empty((n, co, *volume), dtype=out_dtype, device=x.device, memory_format=torch.channels_last_3d)
    stem_conv_forward[(triton.cdiv(x.numel(), ROWS) * triton.cdiv(co, columns),)](
        *(x, weight, y, x.numel(), *volume, weight.stride(0), weight.stride(4)),
        *(co, ROWS, columns),
        num_warps=4,
    )
    return y


def backward(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """As in reference.py, of dy in channels_last_3d and a contiguous x. Two launches."""
    _check(x)
    co, columns = len(weight), columns_of(len(weight))
    chunk = chunk_of(x.numel(), co)
    chunks = triton.cdiv(x.numel(), chunk)
    partial = x.new_empty((chunks, 27, co), dtype=torch.float32)
    stem_conv_backward_weight[(chunks * triton.cdiv(co, columns),)](
        *(dy, x, partial, x.numel(), *x.shape[2:]),
        *(co, ROWS, columns, chunk),
        num_warps=4,
        num_stages=3,
    )
    dweight = weight.new_empty_strided(weight.shape, weight.stride())
    parts = min(256, triton.next_power_of_2(chunks))
    elements = MERGE_ELEMENTS // parts
    stem_conv_merge[(triton.cdiv(27 * co, elements),)](
        *(partial, dweight, dweight.stride(0), dweight.stride(4)),
        *(co, chunks, parts, elements),
        num_warps=4,
    )
    return dweight
