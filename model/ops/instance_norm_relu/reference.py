"""Instance norm and (leaky) ReLU in plain PyTorch, for any floating dtype and memory format.

Written for a CPU, where fresh memory costs more than arithmetic: the work goes slab by slab through small
buffers that stay in the cache, and nothing of the size of ``x`` is allocated. Everything is computed in
float32 (float64 where x is float64), with no operation that autocast would change.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

SLAB_ELEMENTS = 2**20
"""Elements of a slab: 4 MB of float32. Smaller ones pay more for dispatch than they gain from the cache."""

_SPACE = (2, 3, 4)


def _memory_format(x: Tensor) -> torch.memory_format:
    """``channels_last_3d`` or contiguous, of more than one voxel, be it a slice of channels."""
    return torch.channels_last_3d if x.stride(1) == 1 else torch.contiguous_format


def empty_like(x: Tensor, channels: int) -> Tensor:
    """Unwritten, of so many channels, else as x in shape, dtype and memory format."""
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_memory_format(x))


def _slabs(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """One sample and, on a CPU, some of its D planes at a time."""
    samples, channels, depth, height, width = x.shape
    planes = depth
    if x.device.type == "cpu":
        planes = max(1, SLAB_ELEMENTS // (channels * height * width))
    for n in range(samples):
        for d in range(0, depth, planes):
            yield slice(n, n + 1), slice(d, min(d + planes, depth))


def _buffer(x: Tensor) -> Tensor:
    """Room for the first and largest slab, in the dtype and memory format it is computed in."""
    n, d = next(_slabs(x))
    shape = x[n, :, d].shape
    return torch.empty(shape, dtype=_computed(x.dtype), device=x.device, memory_format=_memory_format(x))


def _computed(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _spread(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values per channel (C, or N x C) in the shape that meets N x C x D x H x W."""
    return values.to(dtype).view(-1, values.shape[-1], 1, 1, 1)


def _statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps), N x C, in two passes: the second squares distances to the mean."""
    voxels, computed = x.shape[2:].numel(), _computed(x.dtype)
    # Few numbers, many additions: the sums over slabs are kept in float64.
    total = x.new_zeros(x.shape[:2], dtype=torch.float64)
    for n, d in _slabs(x):
        total[n] += x[n, :, d].sum(_SPACE, dtype=computed)
    mean = (total / voxels).to(computed)
    centres, buffer = _spread(mean, computed), _buffer(x)
    total.zero_()
    for n, d in _slabs(x):
        centred = torch.sub(x[n, :, d], centres[n], out=buffer[:, :, : d.stop - d.start])
        total[n] += centred.square_().sum(_SPACE)
    return mean, (total / voxels + eps).rsqrt().to(computed)


@torch.no_grad()
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
    """Write leaky_relu((x - mean) * (rstd * weight) + bias) to ``out`` and, where given, to ``copy``.

    ``x``, ``out`` and ``copy`` are N x C x D x H x W, ``mean`` and ``rstd`` N x C, ``weight`` and ``bias`` C.
    """
    buffer = _buffer(x)
    centres, scale = _spread(mean, buffer.dtype), _spread(rstd * weight.to(rstd.dtype), buffer.dtype)
    shift = _spread(bias, buffer.dtype)
    for n, d in _slabs(x):
        y = torch.sub(x[n, :, d], centres[n], out=buffer[:, :, : d.stop - d.start])
        y.mul_(scale[n]).add_(shift)
        if negative_slope == 0:
            y.relu_()
        elif negative_slope != 1:
            torch.nn.functional.leaky_relu_(y, negative_slope)
        out[n, :, d].copy_(y)
        if copy is not None:
            copy[n, :, d].copy_(y)


@torch.no_grad()
def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    negative_slope: float,
    out: Tensor,
    copy: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`normalize` with x's own statistics, which are returned: mean and rstd, N x C."""
    mean, rstd = _statistics(x, eps)
    normalize(x, mean, rstd, weight, bias, negative_slope, out, copy)
    return mean, rstd


def _gradients(
    dy: Tensor | None,
    dskip: Tensor | None,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    negative_slope: float,
) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
    """Per slab, where it lies, the gradient before the activation, and xhat = (x - mean) * rstd."""
    xhats, before, gradients = (_buffer(x) for _ in range(3))
    computed = xhats.dtype
    centres, deviations = _spread(mean, computed), _spread(rstd, computed)
    scale, shift = deviations * _spread(weight, computed), _spread(bias, computed)
    given = [gradient for gradient in (dy, dskip) if gradient is not None]
    for n, d in _slabs(x):
        inside = (slice(None), slice(None), slice(d.stop - d.start))
        xhat, z, gradient = xhats[inside], before[inside], gradients[inside]
        torch.sub(x[n, :, d], centres[n], out=xhat)
        torch.mul(xhat, scale[n], out=z).add_(shift)
        gradient.copy_(given[0][n, :, d])
        for other in given[1:]:
            gradient.add_(other[n, :, d])
        if negative_slope == 0:
            torch.ops.aten.threshold_backward.grad_input(gradient, z, 0, grad_input=gradient)
        elif negative_slope != 1:
            leaky = torch.ops.aten.leaky_relu_backward.grad_input
            leaky(gradient, z, negative_slope, False, grad_input=gradient)
        yield n, d, gradient, xhat.mul_(deviations[n])


@torch.no_grad()
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
    """Write x's gradient to ``dx`` and return those of weight and bias, in their dtypes.

    With d = (dy + dskip) * activation'(z), V voxels and sums over a sample's voxels:
    dx = weight * rstd * (d - sum(d) / V - xhat * sum(d * xhat) / V), dweight = sum(d * xhat), dbias = sum(d),
    the last two summed over samples too. The sign of z is computed anew from x. ``dy`` is the gradient of the
    output and ``dskip`` that of its copy; one of them may be None for zero.
    """
    voxels, given = x.shape[2:].numel(), (dy, dskip, x, mean, rstd, weight, bias, negative_slope)
    sums = x.new_zeros((2, *mean.shape), dtype=torch.float64)
    for n, _, gradient, xhat in _gradients(*given):
        sums[0, n] += gradient.sum(_SPACE)
        sums[1, n] += xhat.mul_(gradient).sum(_SPACE)
    dbias, dweight = sums.sum(1)
    scale = _spread(rstd * weight.to(rstd.dtype), rstd.dtype)
    along_one, along_xhat = (_spread(total / voxels, rstd.dtype) for total in sums)
    for n, d, gradient, xhat in _gradients(*given):
        gradient.sub_(xhat.mul_(along_xhat[n])).sub_(along_one[n]).mul_(scale[n])
        dx[n, :, d].copy_(gradient)
    return dweight.to(weight.dtype), dbias.to(bias.dtype)
