"""Launchers of the kernels, with the signatures of ``reference.py``, and the sizes of their blocks."""

import torch
from torch import Tensor

from model.ops import why_no_triton
from model.ops.up_join import triton as kernels

LEAST = 16
"""A block's least side: `triton.language.dot` takes no less."""
PROGRAMS = 264
"""As many programs as fill a GPU of 132 multiprocessors twice."""
PARTIAL_BYTES = 2**26
"""At most so much for the partial sums of a weight's gradient."""
MAX_VOXELS = 2**30
"""Voxel numbers are 32-bit (element offsets are 64-bit)."""
MERGE_ELEMENTS = 4096
"""Partial sums that a merging program holds at once."""
BIAS_ROWS, BIAS_CHANNELS = 256, 32
"""Likewise for the bias, whose sums go over taps as well."""


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _power_of_2(count: int, smallest: int, largest: int) -> int:
    """The smallest power of two that holds ``count``, within bounds that are such powers."""
    return min(largest, max(smallest, 1 << (count - 1).bit_length()))


def product_blocks(rows: int, columns: int, depth: int, itemsize: int) -> tuple[int, int, int]:
    """Rows, columns and depth of a block of a matrix product: the largest square that fills the GPU.

    float32 has no tensor cores here (TF32 would round), and takes no block of 128 x 128.
    """
    side = 32
    for larger in (64, 128) if itemsize == 2 else (64,):
        if _ceil_div(rows, larger) * _ceil_div(columns, larger) >= PROGRAMS:
            side = larger
    return side, _power_of_2(columns, LEAST, side), _power_of_2(depth, LEAST, 64 if itemsize == 2 else 32)


def weight_blocks(voxels: int, ci: int, co: int, itemsize: int) -> tuple[int, int, int, int]:
    """Rows, columns and depth of a block of the weight's gradient, and voxels per chunk.

    Chunks are as many as fill the GPU, but their partial sums take no more than ``PARTIAL_BYTES``.
    """
    rows, columns = _power_of_2(ci, LEAST, 64), _power_of_2(8 * co, LEAST, 128 if itemsize == 2 else 64)
    step = 64 if itemsize == 2 else 32
    tiles = _ceil_div(ci, rows) * _ceil_div(8 * co, columns)
    affordable = PARTIAL_BYTES // ((ci + 1) * 8 * co * 4)
    chunks = max(1, min(_ceil_div(PROGRAMS, tiles), affordable))
    return rows, columns, step, step * _ceil_div(_ceil_div(voxels, chunks), step)


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


def _strides(weight: Tensor) -> tuple[int, int, int]:
    """Elements from one input channel, one output channel and one tap to the next."""
    of_ci, of_co, _, _, of_tap = weight.stride()
    return of_ci, of_co, of_tap


def forward(x: Tensor, weight: Tensor, bias: Tensor, joined: Tensor) -> None:
    """As in reference.py, of channels_last_3d tensors. One launch."""
    voxels, (ci, co) = _check(x), weight.shape[:2]
    rows, columns, step = product_blocks(voxels, 8 * co, ci, x.element_size())
    kernels.up_join_forward[(_ceil_div(voxels, rows) * _ceil_div(8 * co, columns),)](
        *(x, weight, bias, joined),
        *(voxels, x.shape[3], x.shape[4], *_strides(weight), ci, co),
        *(rows, columns, step),
        num_warps=8 if rows * columns > 8192 else 4,
        num_stages=3,
    )


def backward(
    dcat: Tensor, x: Tensor, weight: Tensor, bias_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """As in reference.py, of channels_last_3d tensors. Three launches."""
    voxels, (ci, co) = _check(x), weight.shape[:2]
    sizes = (voxels, x.shape[3], x.shape[4])
    dx = x.new_empty_strided(x.shape, x.stride())
    dweight = weight.new_empty_strided(weight.shape, weight.stride())
    dbias = weight.new_empty(co, dtype=bias_dtype)

    rows, columns, step = product_blocks(voxels, ci, 8 * co, x.element_size())
    kernels.up_join_backward_x[(_ceil_div(voxels, rows) * _ceil_div(ci, columns),)](
        *(dcat, weight, dx, *sizes, *_strides(weight), ci, co),
        *(rows, columns, step),
        num_warps=8 if rows * columns > 8192 else 4,
        num_stages=3,
    )

    rows, columns, step, chunk = weight_blocks(voxels, ci, co, x.element_size())
    chunks = _ceil_div(voxels, chunk)
    partial = x.new_empty((chunks, ci + 1, 8 * co), dtype=torch.float32)
    kernels.up_join_backward_weight[(chunks * _ceil_div(ci, rows) * _ceil_div(8 * co, columns),)](
        *(dcat, x, partial, *sizes, ci, co),
        *(rows, columns, step, chunk),
        num_warps=4,
        num_stages=3,
    )

    parts = _power_of_2(chunks, 1, 32)
    elements = MERGE_ELEMENTS // parts
    kernels.up_join_merge[(_ceil_div(ci * 8 * co, elements) + _ceil_div(co, BIAS_CHANNELS),)](
        *(partial, dweight, dbias, *_strides(dweight), ci, co),
        *(chunks, parts, elements, BIAS_ROWS, BIAS_CHANNELS),
        num_warps=4,
    )
    return dx, dweight, dbias
