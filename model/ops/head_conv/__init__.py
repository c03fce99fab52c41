"""The 1x1x1 convolution from features to logits."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops.head_conv import reference

LAUNCHES = {"voxelrate::head_conv": 1, "voxelrate::head_conv_backward": 2}
"""Kernels that each custom op launches."""

MOST_CLASSES = 16
"""What the kernels hold in one block."""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def head_conv(x: Tensor, weight: Tensor, bias: Tensor, *, backend: Literal["reference", "triton"]) -> Tensor:
    """`torch.nn.Conv3d` of kernel 1 to K classes.

    Args:
        x: N x Ci x D x H x W.
        weight: K x Ci x 1 x 1 x 1, rounded to x's dtype as autocast would; its gradient, summed in float32,
            comes in its own dtype.
        bias: K, likewise.
        backend: ``reference`` takes any floating dtype and layout; ``triton`` takes float32, float16 and
            bfloat16, x in ``channels_last_3d``, weight contiguous (in either memory format, which are one for
            a kernel of 1), and up to 16 classes.

    Returns:
        Logits, N x K x D x H x W in x's dtype and ``channels_last_3d``.

    Raises:
        ValueError: An unknown backend, or shapes, dtypes, devices or layouts that do not fit.
    """
    if backend not in ("reference", "triton"):
        raise ValueError(f"backend must be reference or triton, found {backend!r}")
    _check(x, weight, bias)
    if backend == "triton":
        _check_kernels_arguments(x, weight, bias)
    return _HeadConv.apply(x, weight, bias, backend)


def _check(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    if x.dim() != 5 or weight.shape != (bias.numel(), x.shape[1], 1, 1, 1) or bias.dim() != 1:
        raise ValueError(
            f"x must be N x Ci x D x H x W, weight K x Ci x 1 x 1 x 1 and bias K, found "
            f"{tuple(x.shape)}, {tuple(weight.shape)} and {tuple(bias.shape)}"
        )
    if not x.device == weight.device == bias.device:
        raise ValueError(
            f"x, weight and bias must be on one device, found {x.device}, {weight.device} and {bias.device}"
        )


def _check_kernels_arguments(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    found = {tensor.dtype for tensor in (x, weight, bias)}
    if not found.issubset(_DTYPES):
        raise ValueError(
            f"the kernels take float32, float16 and bfloat16, found {', '.join(sorted(map(str, found)))}"
        )
    if not x.is_contiguous(memory_format=torch.channels_last_3d):
        raise ValueError(
            f"x must be contiguous in channels_last_3d, found strides {x.stride()} of shape {tuple(x.shape)}"
        )
    if not weight.is_contiguous():
        raise ValueError(
            f"weight must be contiguous, found strides {weight.stride()} of shape {tuple(weight.shape)}"
        )
    if len(bias) > MOST_CLASSES:
        raise ValueError(f"the kernels take up to {MOST_CLASSES} classes, found {len(bias)}")


class _HeadConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_dtype, ctx.backend = bias.dtype, backend
        return (_triton_forward if backend == "triton" else reference.forward)(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dlogits: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if ctx.backend == "triton":
            # The loss chose the layout of its gradient.
            dlogits = dlogits.contiguous(memory_format=torch.channels_last_3d)
            return *_triton_backward(dlogits, x, weight, ctx.bias_dtype), None
        return *reference.backward(dlogits, x, weight, ctx.bias_dtype), None


@torch.library.custom_op("voxelrate::head_conv", mutates_args=())
def _triton_forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    from model.ops.head_conv import triton as kernels

    return kernels.forward(x, weight, bias)


@_triton_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)


@torch.library.custom_op("voxelrate::head_conv_backward", mutates_args=())
def _triton_backward(
    dlogits: Tensor, x: Tensor, weight: Tensor, bias_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    from model.ops.head_conv import triton as kernels

    return kernels.backward(dlogits, x, weight, bias_dtype)


@_triton_backward.register_fake
def _(dlogits: Tensor, x: Tensor, weight: Tensor, bias_dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    dx = x.new_empty_strided(x.shape, x.stride())
    dweight = weight.new_empty_strided(weight.shape, weight.stride())
    return dx, dweight, weight.new_empty(weight.shape[0], dtype=bias_dtype)
