"""The kernels of `head_conv`: each reads x once, whose rows (voxels) hold Ci channels.

The K classes are padded to the 16 columns that a matrix product takes at least. Weights of any floating dtype
are rounded to x's as they are read; element (k, ci) is at ``k * of_k + ci * of_ci``.
"""
# Triton writes what is known at compile time in capitals and leaves the rest to the call.
# ruff: noqa: N803
# mypy: allow-untyped-defs

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.ops import why_no_triton

LEAST, MOST = 16, 64
"""Bounds of the channels that a program holds at once: `triton.language.dot` takes no fewer than 16."""
PROGRAMS = 1056
"""As many programs for the backward pass as are 8 for each of 132 multiprocessors."""
PARTIAL_BYTES = 2**26
"""At most so much for the partial sums of the weight's gradient."""
MERGE_ELEMENTS = 4096
"""Partial sums that a merging program holds at once."""
MAX_VOXELS = 2**30
"""Voxel numbers are 32-bit (element offsets are 64-bit)."""


@triton.jit
def head_conv_forward(
    x,
    weight,
    bias,
    logits,
    voxels,
    of_k,
    of_ci,
    CI: tl.constexpr,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
):
    voxel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.arange(0, 16)
    a = x + (voxel.to(tl.int64) * CI)[:, None]
    total = tl.zeros((ROWS, 16), tl.float32)
    for first in range(0, CI, STEP):
        ci = first + tl.arange(0, STEP)
        rows = tl.load(a + ci[None, :], mask=(voxel < voxels)[:, None] & (ci < CI)[None, :], other=0.0)
        at = (ci * of_ci)[:, None] + (k * of_k)[None, :]
        matrix = tl.load(weight + at, mask=(ci < CI)[:, None] & (k < K)[None, :], other=0.0)
        total = tl.dot(rows, matrix.to(rows.dtype), total, input_precision="ieee")
    shift = tl.load(bias + k, mask=k < K, other=0.0)
    total += shift.to(x.dtype.element_ty).to(tl.float32)[None, :]
    to = (voxel.to(tl.int64) * K)[:, None] + k[None, :]
    tl.store(
        logits + to, total.to(logits.dtype.element_ty), mask=(voxel < voxels)[:, None] & (k < K)[None, :]
    )


@triton.jit
def head_conv_backward(
    dlogits,
    x,
    weight,
    dx,
    partial,
    voxels,
    of_k,
    of_ci,
    CI: tl.constexpr,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """dx of a chunk of voxels, and its share of the weight's and (column Ci) the bias's gradients."""
    tiles: tl.constexpr = (CI + COLUMNS - 1) // COLUMNS
    chunk, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    ci = tile * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, 16)
    used = (k < K)[:, None] & (ci < CI)[None, :]
    at = (k * of_k)[:, None] + (ci * of_ci)[None, :]
    matrix = tl.load(weight + at, mask=used, other=0.0).to(x.dtype.element_ty)
    total = tl.zeros((16, COLUMNS), tl.float32)
    sums = tl.zeros((16,), tl.float32)
    for first in range(0, CHUNK, ROWS):
        voxel = chunk * CHUNK + first + tl.arange(0, ROWS)
        inside = (voxel < voxels)[:, None]
        from_k = (voxel.to(tl.int64) * K)[:, None] + k[None, :]
        grad = tl.load(dlogits + from_k, mask=inside & (k < K)[None, :], other=0.0)
        from_ci = (voxel.to(tl.int64) * CI)[:, None] + ci[None, :]
        rows = tl.load(x + from_ci, mask=inside & (ci < CI)[None, :], other=0.0)
        total = tl.dot(tl.trans(grad), rows, total, input_precision="ieee")
        sums += tl.sum(grad.to(tl.float32), axis=0)
        back = tl.dot(grad, matrix, input_precision="ieee")
        tl.store(dx + from_ci, back.to(dx.dtype.element_ty), mask=inside & (ci < CI)[None, :])
    to = partial + chunk.to(tl.int64) * K * (CI + 1) + k * (CI + 1)
    tl.store(to[:, None] + ci[None, :], total, mask=used)
    if tile == 0:
        tl.store(to + CI, sums, mask=k < K)


@triton.jit
def head_conv_merge(
    partial,
    dweight,
    dbias,
    of_k,
    of_ci,
    CI: tl.constexpr,
    K: tl.constexpr,
    CHUNKS: tl.constexpr,
    PARTS: tl.constexpr,
    ELEMENTS: tl.constexpr,
):
    """Sum the chunks' shares, always in the same order."""
    element = tl.program_id(0) * ELEMENTS + tl.arange(0, ELEMENTS)
    used = element < K * (CI + 1)
    total = tl.zeros((ELEMENTS,), tl.float32)
    for first in range(0, CHUNKS, PARTS):
        chunk = first + tl.arange(0, PARTS)
        at = (chunk.to(tl.int64) * K * (CI + 1))[:, None] + element[None, :]
        share = tl.load(partial + at, mask=(chunk < CHUNKS)[:, None] & used[None, :], other=0.0)
        total += tl.sum(share, axis=0)
    k, ci = element // (CI + 1), element % (CI + 1)
    to = k * of_k + ci * of_ci
    tl.store(dweight + to, total.to(dweight.dtype.element_ty), mask=used & (ci < CI))
    tl.store(dbias + k, total.to(dbias.dtype.element_ty), mask=used & (ci == CI))


def rows_of(itemsize: int) -> int:
    """Voxels that a program holds at once; in float32, of 128 the registers overflow."""
    return 128 if itemsize == 2 else 64


def columns_of(ci: int) -> int:
    """Channels that a program holds at once."""
    return min(MOST, max(LEAST, triton.next_power_of_2(ci)))


def chunk_of(voxels: int, ci: int, k: int, rows: int) -> int:
    """Voxels per chunk of the backward pass: chunks fill the GPU, within ``PARTIAL_BYTES``."""
    tiles = triton.cdiv(ci, columns_of(ci))
    chunks = max(1, min(triton.cdiv(PROGRAMS, tiles), PARTIAL_BYTES // (k * (ci + 1) * 4)))
    return rows * triton.cdiv(triton.cdiv(voxels, chunks), rows)


def _check(x: Tensor) -> int:
    """The number of voxels.

    Raises:
        ValueError: Kernels cannot run on x's device, or there are too many voxels.
    """
    reason = why_no_triton(x.device)
    if reason is not None:
        raise ValueError(reason)
    voxels = x.numel() // x.shape[1]
    if voxels > MAX_VOXELS:
        raise ValueError(f"the kernels count up to {MAX_VOXELS} voxels, found {voxels}")
    return voxels


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As in reference.py, of x in channels_last_3d. One launch."""
    voxels, (k, ci) = _check(x), weight.shape[:2]
    rows, shape = rows_of(x.element_size()), (x.shape[0], k, *x.shape[2:])
    logits = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
    head_conv_forward[(triton.cdiv(voxels, rows),)](
        *(x, weight, bias, logits, voxels, *weight.stride()[:2]),
        *(ci, k, rows, columns_of(ci)),
        num_warps=4,
        num_stages=3,
    )
    return logits


def backward(
    dlogits: Tensor, x: Tensor, weight: Tensor, bias_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """As in reference.py, of dlogits and x in channels_last_3d. Two launches."""
    voxels, (k, ci) = _check(x), weight.shape[:2]
    rows, columns = rows_of(x.element_size()), columns_of(ci)
    chunk = chunk_of(voxels, ci, k, rows)
    chunks = triton.cdiv(voxels, chunk)
    dx = x.new_empty_strided(x.shape, x.stride())
    dweight = weight.new_empty_strided(weight.shape, weight.stride())
    dbias = weight.new_empty(k, dtype=bias_dtype)
    partial = x.new_empty((chunks, k, ci + 1), dtype=torch.float32)
    head_conv_backward[(chunks * triton.cdiv(ci, columns),)](
        *(dlogits, x, weight, dx, partial, voxels, *weight.stride()[:2]),
        *(ci, k, rows, columns, chunk),
        num_warps=4,
        num_stages=3,
    )
    parts = min(256, triton.next_power_of_2(chunks))
    elements = MERGE_ELEMENTS // parts
    head_conv_merge[(triton.cdiv(k * (ci + 1), elements),)](
        *(partial, dweight, dbias, *dweight.stride()[:2]),
        *(ci, k, chunks, parts, elements),
        num_warps=4,
    )
    return dx, dweight, dbias
