"""Instance norm and (leaky) ReLU in one, and its output written straight into a concatenation as well.

y = leaky_relu(weight * (x - mean) * rstd + bias), with mean and rstd = 1 / sqrt(variance + eps) of one sample
and channel and the variance biased, as in ``torch.nn.functional.instance_norm``. The backward keeps x and the
statistics, and no output: the sign that the activation saw is computed anew.
"""

from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops.instance_norm_relu import custom_ops, reference
from model.ops.instance_norm_relu.custom_ops import LAUNCHES
from model.ops.instance_norm_relu.tiling import KERNEL_DTYPES, kernel_strides

__all__ = ["LAUNCHES", "instance_norm_relu", "instance_norm_relu_joined", "normalize"]


def _check(x: Tensor, weight: Tensor, bias: Tensor, backend: str) -> None:
    if backend not in ("reference", "triton"):
        raise ValueError(f"backend must be reference or triton, found {backend!r}")
    if x.dim() != 5 or not x.is_floating_point():
        raise ValueError(
            f"x must be N x C x D x H x W of a floating dtype, found {tuple(x.shape)} of {x.dtype}"
        )
    if x.numel() == 0 or x.shape[2:].numel() < 2:
        raise ValueError(f"a norm needs more than one voxel per channel, found x of shape {tuple(x.shape)}")
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector.shape != x.shape[1:2] or not vector.is_floating_point() or vector.device != x.device:
            raise ValueError(
                f"{name} must hold x's {x.shape[1]} channels in a floating dtype on {x.device}, found "
                f"{tuple(vector.shape)} of {vector.dtype} on {vector.device}"
            )
    if backend == "triton" and (x.dtype not in KERNEL_DTYPES or kernel_strides(x) is None):
        raise ValueError(
            "backend triton takes float32, float16 or bfloat16 as channels_last_3d or a slice of it, found "
            f"x of {x.dtype}, shape {tuple(x.shape)}, strides {x.stride()}"
        )


def _readable(gradient: Tensor | None) -> Tensor | None:
    """A gradient as the kernels can read it: what arrives in another layout is copied."""
    if gradient is None or kernel_strides(gradient) is not None:
        return gradient
    return gradient.contiguous(memory_format=torch.channels_last_3d)


class _InstanceNormReLU(torch.autograd.Function):
    """From x, weight and bias to y, the joined tensor (or None), mean and rstd."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        negative_slope: float,
        backend: str,
        join: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        joined, channels = None, x.shape[1]
        if backend == "reference":
            y = reference.empty_like(x, channels)
            joined = reference.empty_like(x, 2 * channels) if join else None
            copy = joined[:, channels:] if joined is not None else None
            mean, rstd = reference.forward(x, weight, bias, eps, negative_slope, y, copy)
        elif join:
            y, joined, mean, rstd = custom_ops.instance_norm_relu_joined(x, weight, bias, eps, negative_slope)
        else:
            y, mean, rstd = custom_ops.instance_norm_relu(x, weight, bias, eps, negative_slope)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        ctx.negative_slope, ctx.backend = negative_slope, backend
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        return y, joined, mean, rstd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, djoined: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if dy is None and djoined is None:
            return (None,) * 7
        x, mean, rstd, weight, bias = ctx.saved_tensors
        dskip = djoined[:, x.shape[1] :] if djoined is not None else None
        saved = (x, mean, rstd, weight, bias, ctx.negative_slope)
        if ctx.backend == "triton":
            return *custom_ops.backward(_readable(dy), _readable(dskip), *saved), *(None,) * 4
        dx = reference.empty_like(x, x.shape[1])
        return dx, *reference.backward(dy, dskip, *saved, dx), *(None,) * 4


@overload
def instance_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, *, eps: float = ..., negative_slope: float = ...,
    backend: str, with_statistics: Literal[False] = ...,
) -> Tensor: ...  # fmt: skip
@overload
def instance_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, *, eps: float = ..., negative_slope: float = ...,
    backend: str, with_statistics: Literal[True],
) -> tuple[Tensor, Tensor, Tensor]: ...  # fmt: skip
def instance_norm_relu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float = 1e-5,
    negative_slope: float = 0.0,
    backend: str,
    with_statistics: bool = False,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Normalise every channel of every sample, scale, shift, and apply (leaky) ReLU.

    Args:
        x: N x C x D x H x W of any floating dtype; for the kernels float32, float16 or bfloat16, in
            ``channels_last_3d`` or a slice of its channels.
        weight: C, of any floating dtype.
        bias: Likewise.
        eps: Added to the variance, inside the root.
        negative_slope: Slope for negative numbers: 0 is ReLU, 1 no activation. It is the slope at 0 as well.
        backend: ``reference`` or ``triton``.
        with_statistics: Whether to return what `normalize` needs.

    Returns:
        y, as x in shape, dtype and memory format (``channels_last_3d`` from the kernels); with
        ``with_statistics`` also mean and rstd, N x C in float32 (float64 where x is), which have no gradient.

    Raises:
        ValueError: Arguments that do not fit, a single voxel, or a backend that cannot take them.
    """
    _check(x, weight, bias, backend)
    y, _, mean, rstd = _InstanceNormReLU.apply(x, weight, bias, eps, negative_slope, backend, False)
    return (y, mean, rstd) if with_statistics else y


@overload
def instance_norm_relu_joined(
    x: Tensor, weight: Tensor, bias: Tensor, *, eps: float = ..., negative_slope: float = ...,
    backend: str, with_statistics: Literal[False] = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def instance_norm_relu_joined(
    x: Tensor, weight: Tensor, bias: Tensor, *, eps: float = ..., negative_slope: float = ...,
    backend: str, with_statistics: Literal[True],
) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...  # fmt: skip
def instance_norm_relu_joined(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float = 1e-5,
    negative_slope: float = 0.0,
    backend: str,
    with_statistics: bool = False,
) -> tuple[Tensor, ...]:
    """`instance_norm_relu`, and its output once more in the second half of a concatenation.

    Returns:
        y, and a tensor N x 2C x D x H x W of its dtype and memory format: channels C to 2C are a copy of y,
        the first C are unwritten, for another operation to write in place. Of that tensor's gradient only the
        second half is read; it is added to that of y in float32. With ``with_statistics`` also mean and rstd.
    """
    _check(x, weight, bias, backend)
    y, joined, mean, rstd = _InstanceNormReLU.apply(x, weight, bias, eps, negative_slope, backend, True)
    return (y, joined, mean, rstd) if with_statistics else (y, joined)


def normalize(
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    negative_slope: float,
    backend: str,
) -> Tensor:
    """y of `instance_norm_relu` again, to the bit, from its arguments and statistics; it has no gradient."""
    _check(x, weight, bias, backend)
    x, mean, rstd, weight, bias = (tensor.detach() for tensor in (x, mean, rstd, weight, bias))
    if backend == "triton":
        return custom_ops.normalize(x, mean, rstd, weight, bias, negative_slope)
    y = reference.empty_like(x, x.shape[1])
    reference.normalize(x, mean, rstd, weight, bias, negative_slope, y)
    return y
