"""The network's first convolution, of an image of one channel."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops.stem_conv import reference

LAUNCHES = {"voxelrate::stem_conv": 1, "voxelrate::stem_conv_backward": 2}
"""Kernels that each custom op launches."""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def stem_conv(
    x: Tensor,
    weight: Tensor,
    *,
    backend: Literal["reference", "triton"],
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """`torch.nn.Conv3d` of kernel 3, padding 1 and no bias, of an image that needs no gradient.

    Args:
        x: N x 1 x D x H x W in any floating dtype, rounded to ``out_dtype`` as it is read.
        weight: Co x 1 x 3 x 3 x 3, likewise; its gradient, summed in float32, comes in its own dtype.
        backend: ``reference`` takes any dtype and layout; ``triton`` takes float32, float16 and bfloat16,
            x and weight contiguous (in either memory format, which are one for one channel).
        out_dtype: The dtype of the result; autocast's where that is on, else x's.

    Returns:
        N x Co x D x H x W in ``channels_last_3d``.

    Raises:
        ValueError: x requires a gradient, an unknown backend, or shapes, dtypes, devices or layouts that do
            not fit.
    """
    if x.requires_grad:
        raise ValueError("stem_conv has no gradient of its input, and x requires one")
    if backend not in ("reference", "triton"):
        raise ValueError(f"backend must be reference or triton, found {backend!r}")
    out_dtype = out_dtype or _autocast_dtype(x.device) or x.dtype
    _check(x, weight)
    if backend == "triton":
        _check_kernels_arguments(x, weight, out_dtype)
    return _StemConv.apply(x, weight, out_dtype, backend)


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast rounds a convolution's arguments to; None where it is off."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def _check(x: Tensor, weight: Tensor) -> None:
    if x.dim() != 5 or x.shape[1] != 1 or weight.dim() != 5 or weight.shape[1:] != (1, 3, 3, 3):
        raise ValueError(
            f"x must be N x 1 x D x H x W and weight Co x 1 x 3 x 3 x 3, found "
            f"{tuple(x.shape)} and {tuple(weight.shape)}"
        )
    if x.device != weight.device:
        raise ValueError(f"x and weight must be on one device, found {x.device} and {weight.device}")


def _check_kernels_arguments(x: Tensor, weight: Tensor, out_dtype: torch.dtype) -> None:
    found = {x.dtype, weight.dtype, out_dtype}
    if not found.issubset(_DTYPES):
        raise ValueError(
            f"the kernels take float32, float16 and bfloat16, found {', '.join(sorted(map(str, found)))}"
        )
    for name, tensor in (("x", x), ("weight", weight)):
        if not tensor.is_contiguous():
            raise ValueError(
                f"{name} must be contiguous, found strides {tensor.stride()} of shape {tuple(tensor.shape)}"
            )


class _StemConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, out_dtype: torch.dtype, backend: str) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.backend = backend
        return (_triton_forward if backend == "triton" else reference.forward)(x, weight, out_dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if ctx.backend == "triton":
            # Whoever used the result chose its gradient's layout; a norm keeps channels_last_3d.
            dweight = _triton_backward(dy.contiguous(memory_format=torch.channels_last_3d), x, weight)
        else:
            dweight = reference.backward(dy, x, weight)
        return None, dweight, None, None


@torch.library.custom_op("voxelrate::stem_conv", mutates_args=())
def _triton_forward(x: Tensor, weight: Tensor, out_dtype: torch.dtype) -> Tensor:
    from model.ops.stem_conv import triton as kernels

    return kernels.forward(x, weight, out_dtype)


@_triton_forward.register_fake
def _(x: Tensor, weight: Tensor, out_dtype: torch.dtype) -> Tensor:
    return torch.empty(
        (x.shape[0], weight.shape[0], *x.shape[2:]),
        dtype=out_dtype,
        device=x.device,
        memory_format=torch.channels_last_3d,
    )


@torch.library.custom_op("voxelrate::stem_conv_backward", mutates_args=())
def _triton_backward(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    from model.ops.stem_conv import triton as kernels

    return kernels.backward(dy, x, weight)


@_triton_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return weight.new_empty_strided(weight.shape, weight.stride())
