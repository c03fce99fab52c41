"""The kernels of the loss: its partial sums, their merge, and its gradient. Formulas in ``reference.py``.

A thread holds all classes of its voxels, so that a softmax needs no other thread. Where the classes lie
innermost (``channels_last_3d``), one load is of every K-th element; the loads of all classes together take
whole lines.
"""

# ruff: noqa: N803
# mypy: allow-untyped-defs
# In a kernel tuples grow.
# mypy: disable-error-code="assignment, misc"
import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.ops.dice_ce.reference import SMOOTH

TILE_ELEMENTS = 2048
"""Voxels times classes, rounded up to a power of two, that one program holds at once."""
MOST_TILES = 8
"""Tiles that a program sums up before it writes: of three classes, 4096 voxels make one partial sum."""
MERGE_ROWS = 8
MERGE_COLUMNS = 512
"""(Sample, class) pairs, and partial sums of each, that the merging program holds at once."""


class Tiling(NamedTuple):
    """How the voxels of a sample are divided among programs."""

    block: int
    """Voxels of a tile, a power of two. The backward kernel has a program for each tile."""
    tiles: int
    """Tiles that a program of the forward kernel takes, one after the other."""
    programs: int
    """Programs of the forward kernel per sample."""


def tiling(n_class: int, voxels: int) -> Tiling:
    """The division of a sample of ``voxels`` (D*H*W) voxels: a function of the shape alone."""
    block = TILE_ELEMENTS // triton.next_power_of_2(n_class)
    tiles = min(MOST_TILES, triton.cdiv(voxels, block))
    return Tiling(block, tiles, triton.cdiv(voxels, block * tiles))


@triton.jit
def _address(ptr, sample, start, row, k, voxels, K: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Where class ``k`` of the voxels ``start + row`` lies. ``sample`` and ``start`` are int64."""
    if INTERLEAVED:
        return ptr + (sample * voxels + start) * K + (row * K + k)
    return ptr + (sample * K + k) * voxels + start + row


@triton.jit
def _softmax(ptr, sample, start, row, inside, voxels, K: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Of every class the logits less the largest and their exponentials, and the sum of the latter."""
    logits = ()
    for k in tl.static_range(K):
        address = _address(ptr, sample, start, row, k, voxels, K, INTERLEAVED)
        logits += (tl.load(address, inside, other=0.0).to(tl.float32),)
    largest = logits[0]
    for k in tl.static_range(1, K):
        largest = tl.maximum(largest, logits[k])
    shifted = (logits[0] - largest,)
    exponential = (tl.exp(shifted[0]),)
    total = exponential[0]
    for k in tl.static_range(1, K):
        shifted += (logits[k] - largest,)
        exponential += (tl.exp(shifted[k]),)
        total += exponential[k]
    return shifted, exponential, total


@triton.jit
def dice_ce_sum(
    logits_ptr, label_ptr, partial_ptr, voxels, programs,
    K: tl.constexpr, FIRST: tl.constexpr, INTERLEAVED: tl.constexpr,
    BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Sums over one program's voxels: of p t and of p + t per class of Dice, and of the cross entropy.

    partial: N x (K - FIRST) x programs sums of p t, as many of p + t, N x programs of cross entropy.
    """
    pid = tl.program_id(0)
    sample = (pid // programs).to(tl.int64)
    part = pid % programs
    row = tl.arange(0, BLOCK)
    cross_entropy = tl.zeros((BLOCK,), tl.float32)
    overlap = ()
    size = ()
    for _ in tl.static_range(FIRST, K):
        overlap += (tl.zeros((BLOCK,), tl.float32),)
        size += (tl.zeros((BLOCK,), tl.float32),)
    for tile in range(TILES):
        start = (part.to(tl.int64) * TILES + tile) * BLOCK
        inside = row < tl.minimum(voxels - start, BLOCK).to(tl.int32)
        # Beyond the sample's end the label is that of no class, and the softmax is made 0.
        label = tl.load(label_ptr + sample * voxels + start + row, inside, other=K).to(tl.int32)
        shifted, exponential, total = _softmax(logits_ptr, sample, start, row, inside, voxels, K, INTERLEAVED)
        chosen = shifted[0]
        for k in tl.static_range(1, K):
            chosen = tl.where(label == k, shifted[k], chosen)
        # A kernel cannot raise: NaN is how a label that is no class is seen.
        unknown = tl.where(inside, float("nan"), 0.0)
        cross_entropy += tl.where(label < K, tl.log(total) - chosen, unknown)
        scale = tl.where(inside, 1.0 / total, 0.0)
        more_overlap = ()
        more_size = ()
        for k in tl.static_range(FIRST, K):
            probability = exponential[k] * scale
            hit = label == k
            more_overlap += (overlap[k - FIRST] + tl.where(hit, probability, 0.0),)
            more_size += (size[k - FIRST] + probability + hit.to(tl.float32),)
        overlap = more_overlap
        size = more_size
    sums = tl.num_programs(0).to(tl.int64) * (K - FIRST)
    for k in tl.static_range(K - FIRST):
        at = partial_ptr + (sample * (K - FIRST) + k) * programs + part
        tl.store(at, tl.sum(overlap[k], axis=0))
        tl.store(at + sums, tl.sum(size[k], axis=0))
    tl.store(partial_ptr + 2 * sums + pid, tl.sum(cross_entropy, axis=0))


# A count of 1 would be compiled in as a Python int, which has no dtype to convert.
@triton.jit(do_not_specialize=["pairs", "programs", "parts", "voxels"])
def dice_ce_merge(
    partial_ptr, loss_ptr, coefficient_ptr, pairs, programs, parts, voxels,
    E: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The loss, and a and b of every (sample, class), from all partial sums, in float64. One program.

    ``pairs`` are N x (classes of Dice), ``parts`` are N x programs, ``voxels`` those of all samples.
    """
    sums = pairs.to(tl.int64) * programs
    lost = tl.zeros((ROWS,), tl.float64)
    start = 0
    while start < pairs:
        pair = start + tl.arange(0, ROWS)
        overlap = tl.zeros((ROWS, COLUMNS), tl.float64)
        size = tl.zeros((ROWS, COLUMNS), tl.float64)
        seen = 0
        while seen < programs:
            part = seen + tl.arange(0, COLUMNS)
            mask = (pair < pairs)[:, None] & (part < programs)[None, :]
            at = partial_ptr + pair.to(tl.int64)[:, None] * programs + part[None, :]
            overlap += tl.load(at, mask, other=0.0).to(tl.float64)
            size += tl.load(at + sums, mask, other=0.0).to(tl.float64)
            seen += COLUMNS
        numerator = 2 * tl.sum(overlap, axis=1) + E
        denominator = tl.sum(size, axis=1) + E
        lost += tl.where(pair < pairs, 1 - numerator / denominator, 0.0)
        a = -1 / (denominator * pairs)
        b = numerator / (denominator * denominator * pairs * 2)
        tl.store(coefficient_ptr + pair, a.to(tl.float32), pair < pairs)
        tl.store(coefficient_ptr + pairs + pair, b.to(tl.float32), pair < pairs)
        start += ROWS
    cross_entropy = tl.zeros((ROWS * COLUMNS,), tl.float64)
    start = 0
    while start < parts:
        at = start + tl.arange(0, ROWS * COLUMNS)
        cross_entropy += tl.load(partial_ptr + 2 * sums + at, at < parts, other=0.0).to(tl.float64)
        start += ROWS * COLUMNS
    loss = (tl.sum(lost, axis=0) / pairs + tl.sum(cross_entropy, axis=0) / voxels) / 2
    tl.store(loss_ptr, loss.to(tl.float32))


@triton.jit
def dice_ce_gradient(
    grad_ptr, logits_ptr, label_ptr, coefficient_ptr, result_ptr, pairs, voxels, programs, weight,
    K: tl.constexpr, FIRST: tl.constexpr, INTERLEAVED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of one tile of logits. ``weight`` is 1 / (2 N V), that of a voxel's cross entropy."""
    pid = tl.program_id(0)
    sample = (pid // programs).to(tl.int64)
    start = (pid % programs).to(tl.int64) * BLOCK
    row = tl.arange(0, BLOCK)
    inside = row < tl.minimum(voxels - start, BLOCK).to(tl.int32)
    label = tl.load(label_ptr + sample * voxels + start + row, inside, other=0).to(tl.int32)
    _, exponential, total = _softmax(logits_ptr, sample, start, row, inside, voxels, K, INTERLEAVED)
    scale = 1.0 / total
    mean = tl.zeros((BLOCK,), tl.float32)
    slopes = ()
    for k in tl.static_range(FIRST, K):
        at = coefficient_ptr + sample * (K - FIRST) + (k - FIRST)
        a = tl.load(at)
        b = tl.load(at + pairs)
        slopes += (tl.where(label == k, a + b, b),)
        mean += slopes[k - FIRST] * (exponential[k] * scale)
    # A kernel cannot raise: NaN is how a label that is no class is seen.
    factor = tl.where(label < K, tl.load(grad_ptr), float("nan"))
    for k in tl.static_range(K):
        probability = exponential[k] * scale
        gradient = (probability - (label == k).to(tl.float32)) * weight
        if k < FIRST:
            gradient -= probability * mean
        else:
            gradient += probability * (slopes[k - FIRST] - mean)
        address = _address(result_ptr, sample, start, row, k, voxels, K, INTERLEAVED)
        tl.store(address, (gradient * factor).to(result_ptr.dtype.element_ty), inside)


def _is_interleaved(logits: Tensor) -> bool:
    """Whether the classes lie innermost. What is contiguous in both formats reads the same in both."""
    return not logits.is_contiguous()


def forward(logits: Tensor, label: Tensor, include_background: bool) -> tuple[Tensor, Tensor]:
    """As ``reference.forward``, in float32, except that a label that is no class makes the loss NaN."""
    n_sample, n_class = logits.shape[:2]
    voxels = math.prod(logits.shape[2:])
    first = 0 if include_background else 1
    block, tiles, programs = tiling(n_class, voxels)
    parts, pairs = n_sample * programs, n_sample * (n_class - first)
    partial = logits.new_empty(2 * pairs * programs + parts, dtype=torch.float32)
    coefficients = logits.new_empty((2, n_sample, n_class - first), dtype=torch.float32)
    loss = logits.new_empty((), dtype=torch.float32)
    with torch.cuda.device_of(logits):
        dice_ce_sum[(parts,)](
            logits, label, partial, voxels, programs,
            K=n_class, FIRST=first, INTERLEAVED=_is_interleaved(logits), BLOCK=block, TILES=tiles,
        )  # fmt: skip
        dice_ce_merge[(1,)](
            partial, loss, coefficients, pairs, programs, parts, n_sample * voxels,
            E=SMOOTH, ROWS=MERGE_ROWS, COLUMNS=MERGE_COLUMNS, num_warps=8,
        )  # fmt: skip
    return loss, coefficients


def backward(grad: Tensor, logits: Tensor, label: Tensor, coefficients: Tensor) -> Tensor:
    """As ``reference.backward``, except that the gradient of a voxel whose label is no class is NaN."""
    n_sample, n_class = logits.shape[:2]
    voxels = math.prod(logits.shape[2:])
    n_dice = coefficients.shape[2]
    block = tiling(n_class, voxels).block
    programs = triton.cdiv(voxels, block)
    result = torch.empty_like(logits)
    with torch.cuda.device_of(logits):
        dice_ce_gradient[(n_sample * programs,)](
            grad, logits, label, coefficients, result,
            n_sample * n_dice, voxels, programs, 1 / (2 * n_sample * voxels),
            K=n_class, FIRST=n_class - n_dice, INTERLEAVED=_is_interleaved(logits), BLOCK=block,
        )  # fmt: skip
    return result
