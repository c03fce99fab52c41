"""Launches the kernels of ``triton.py``, with the signatures of ``reference.py``.

Tensors of the size of x must have channels side by side and voxels evenly spaced (`tiling.kernel_strides`);
those per channel are contiguous.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from model.ops.instance_norm_relu import triton as kernels
from model.ops.instance_norm_relu.tiling import (
    KERNEL_DTYPES,
    MERGE_CHANNELS,
    kernel_strides,
    power_of_two,
    tiling,
)


class _Launch(NamedTuple):
    """What all launches on x have in common."""

    samples: int
    channels: int
    voxels: int
    chunk: int
    """Voxels of a chunk."""
    chunks: int
    grid: tuple[int, int, int]
    tile: dict[str, int]
    merge_grid: tuple[int, int]
    merge: dict[str, int]


def _launch(x: Tensor) -> _Launch:
    samples, channels, voxels = *x.shape[:2], x.shape[2:].numel()
    cut, block = tiling(samples, channels, voxels), min(MERGE_CHANNELS, power_of_two(channels))
    return _Launch(
        samples,
        channels,
        voxels,
        cut.chunk,
        cut.chunks,
        grid=(cut.channel_blocks, cut.chunks, samples),
        tile={"ROWS": cut.rows, "BLOCK": cut.channel_block, "TILES": cut.tiles},
        merge_grid=(-(-channels // block), samples),
        merge={"PARTS": power_of_two(cut.chunks), "BLOCK": block},
    )


def _strided(**tensors: Tensor) -> list[Tensor | int]:
    """What a kernel takes of tensors of the size of x."""
    arguments: list[Tensor | int] = []
    for name, tensor in tensors.items():
        strides = kernel_strides(tensor)
        if strides is None or tensor.dtype not in KERNEL_DTYPES:
            raise ValueError(
                "the kernels take float32, float16 or bfloat16 as channels_last_3d or a slice of it, found "
                f"{name} of {tensor.dtype}, shape {tuple(tensor.shape)}, strides {tensor.stride()}"
            )
        arguments += [tensor, *strides]
    return arguments


def _dense(**tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors per channel, or per sample and channel."""
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(f"the kernels take {name} contiguous, found strides {tensor.stride()}")
    return tuple(tensors.values())


def _partials(x: Tensor, to: _Launch) -> Tensor:
    return torch.empty((2, to.samples, to.chunks, to.channels), dtype=torch.float32, device=x.device)


def normalize(
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    negative_slope: float,
    out: Tensor,
    copy: Tensor | None = None,
) -> None:
    to = _launch(x)
    kernels.normalize[to.grid](
        *_strided(x=x, out=out, copy=out if copy is None else copy),
        *_dense(mean=mean, rstd=rstd, weight=weight, bias=bias),
        to.channels,
        to.voxels,
        SLOPE=negative_slope,
        COPY=copy is not None,
        **to.tile,
    )


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    negative_slope: float,
    out: Tensor,
    copy: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    to = _launch(x)
    mean = torch.empty((to.samples, to.channels), dtype=torch.float32, device=x.device)
    rstd = torch.empty_like(mean)
    partial = _partials(x, to)
    kernels.chunk_statistics[to.grid](*_strided(x=x), partial, to.channels, to.voxels, **to.tile)
    kernels.merge_statistics[to.merge_grid](
        partial, mean, rstd, to.channels, to.voxels, to.chunk, to.chunks, eps, **to.merge
    )
    normalize(x, mean, rstd, weight, bias, negative_slope, out, copy)
    return mean, rstd


def backward(
    dy: Tensor | None,
    dskip: Tensor | None,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    negative_slope: float,
    dx: Tensor,
) -> tuple[Tensor, Tensor]:
    first, second = (dskip, None) if dy is None else (dy, dskip)
    if first is None:
        raise ValueError("the kernels need dy, dskip or both")
    to = _launch(x)
    partial = _partials(x, to)
    sums = torch.empty((2, to.samples, to.channels), dtype=torch.float32, device=x.device)
    dweight, dbias = torch.empty_like(weight), torch.empty_like(bias)
    saved = _dense(mean=mean, rstd=rstd, weight=weight, bias=bias)
    gradients = _strided(dy=first, dskip=first if second is None else second, x=x)
    how = {"SLOPE": negative_slope, "SKIP": second is not None, **to.tile}
    kernels.chunk_sums[to.grid](*gradients, *saved, partial, to.channels, to.voxels, **how)
    kernels.merge_sums[to.merge_grid[:1]](
        partial, sums, dweight, dbias, to.samples, to.channels, to.chunks, **to.merge
    )
    kernels.input_gradient[to.grid](
        *gradients, *_strided(dx=dx), *saved, sums, to.samples, to.channels, to.voxels, **how
    )
    return dweight, dbias
