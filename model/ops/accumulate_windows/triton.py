"""The kernel of `accumulate_windows`: one window into the volume.

A thread holds all classes of its voxels, so that the weight is formed once, and so that logits whose classes
lie innermost and a result whose classes lie outermost are both read and written in whole lines.
"""
# Triton writes what is known at compile time in capitals and leaves the rest to the call.
# ruff: noqa: N803
# mypy: allow-untyped-defs

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE_VOXELS = 1024
"""That one program takes, in whole rows (along W) where they are short enough."""
MOST_COLUMNS = 128


@triton.jit
def _address(ptr, voxel, k, voxels, K: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Where class ``k`` of a voxel lies."""
    if INTERLEAVED:
        return ptr + voxel * K + k
    return ptr + voxels * k + voxel


# Starts and sizes change from window to window and from volume to volume, which must not compile anew; and a
# size of 1 would be compiled in as a Python int, which has no dtype to convert.
@triton.jit(do_not_specialize=["start_d", "start_h", "start_w", "depth", "height", "width"])
def _accumulate(
    result,
    logits,
    weights_d,
    weights_h,
    weights_w,
    start_d,
    start_h,
    start_w,
    depth,
    height,
    width,
    K: tl.constexpr,
    D: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    INTERLEAVED_RESULT: tl.constexpr,
    INTERLEAVED_LOGITS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """A tile of a D x H x W window, of which a row is (z, y) and a column x."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    x = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    z, y = row // H, row % H
    to_z, to_y, to_x = z + start_d, y + start_h, x + start_w
    rows = (row < D * H) & (to_z >= 0) & (to_z < depth) & (to_y >= 0) & (to_y < height)
    columns = (x < W) & (to_x >= 0) & (to_x < width)
    of_row = tl.load(weights_d + z, mask=rows, other=0.0) * tl.load(weights_h + y, mask=rows, other=0.0)
    of_column = tl.load(weights_w + x, mask=columns, other=0.0)
    weight = (of_row[:, None] * of_column[None, :]).to(tl.float32)
    inside = rows[:, None] & columns[None, :]
    source = row[:, None] * W + x[None, :]
    target = ((to_z.to(tl.int64) * height + to_y) * width)[:, None] + to_x[None, :]
    voxels = depth.to(tl.int64) * height * width
    for k in tl.static_range(K):
        logit = tl.load(_address(logits, source, k, D * H * W, K, INTERLEAVED_LOGITS), mask=inside, other=0.0)
        at = _address(result, target, k, voxels, K, INTERLEAVED_RESULT)
        tl.store(at, tl.load(at, mask=inside, other=0.0) + logit.to(tl.float32) * weight, mask=inside)


def _is_interleaved(tensor: Tensor) -> bool:
    """Whether the classes lie innermost. What is contiguous in both formats reads the same in both."""
    return not tensor.is_contiguous()


def forward(
    result: Tensor,
    logits: Tensor,
    start: Sequence[int],
    weights_d: Tensor,
    weights_h: Tensor,
    weights_w: Tensor,
) -> None:
    """As ``reference.forward``; layouts and dtypes as `accumulate_windows` says."""
    _, n_class, d, h, w = logits.shape
    columns = min(MOST_COLUMNS, triton.next_power_of_2(w))
    rows = TILE_VOXELS // columns
    with torch.cuda.device_of(logits):
        _accumulate[(triton.cdiv(d * h, rows), triton.cdiv(w, columns))](
            *(result, logits, weights_d, weights_h, weights_w, *start, *result.shape[2:]),
            *(n_class, d, h, w, _is_interleaved(result), _is_interleaved(logits), rows, columns),
        )
