"""A transposed convolution written beside the skip connection it is joined with."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops.up_join import reference

LAUNCHES = {"voxelrate::up_join": 1, "voxelrate::up_join_backward": 3}
"""Kernels that each custom op launches."""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def up_join(
    x: Tensor, weight: Tensor, bias: Tensor, joined: Tensor, *, backend: Literal["reference", "triton"]
) -> Tensor:
    """`torch.nn.ConvTranspose3d` of kernel 2 and stride 2, written in place into channels 0 to Co of
    ``joined``, whose channels Co to 2 * Co hold the skip connection already: their concatenation, uncopied.

    The gradient of ``joined`` is the gradient of the result itself, uncopied too. So only its second half,
    the skip connection's, has a meaning there: its first half belongs to the transposed convolution, and
    whoever made ``joined`` must not read it (in truth it is zero, as what was there before is overwritten).

    Args:
        x: N x Ci x D x H x W.
        weight: Ci x Co x 2 x 2 x 2, rounded to x's dtype as autocast would; its gradient comes in its own.
        bias: Co, likewise.
        joined: N x 2Co x 2D x 2H x 2W, in x's dtype. Its first half may hold anything, even NaN.
        backend: ``reference`` takes any floating dtype and layout; ``triton`` takes float32, float16 and
            bfloat16, x and ``joined`` in ``channels_last_3d``, and weight also contiguous.

    Returns:
        ``joined``.

    Raises:
        ValueError: An unknown backend, or shapes, dtypes, devices or layouts that do not fit.
    """
    _check(x, weight, bias, joined)
    if backend == "triton":
        _check_kernels_arguments(x, weight, bias, joined)
    elif backend != "reference":
        raise ValueError(f"backend must be reference or triton, found {backend!r}")
    return _UpJoin.apply(x, weight, bias, joined, backend)


def _check(x: Tensor, weight: Tensor, bias: Tensor, joined: Tensor) -> None:
    if x.dim() != 5 or weight.shape != (x.shape[1], bias.numel(), 2, 2, 2) or bias.dim() != 1:
        raise ValueError(
            f"x must be N x Ci x D x H x W, weight Ci x Co x 2 x 2 x 2 and bias Co, found "
            f"{tuple(x.shape)}, {tuple(weight.shape)} and {tuple(bias.shape)}"
        )
    expected = (x.shape[0], 2 * len(bias), *(2 * size for size in x.shape[2:]))
    if joined.shape != expected:
        raise ValueError(f"joined must be {expected} for x {tuple(x.shape)}, found {tuple(joined.shape)}")
    if joined.dtype != x.dtype:
        raise ValueError(f"joined must have x's dtype, found {joined.dtype} and {x.dtype}")
    if not x.device == weight.device == bias.device == joined.device:
        raise ValueError("x, weight, bias and joined must be on one device")


def _check_kernels_arguments(x: Tensor, weight: Tensor, bias: Tensor, joined: Tensor) -> None:
    found = {tensor.dtype for tensor in (x, weight, bias)}
    if not found.issubset(_DTYPES):
        raise ValueError(
            f"the kernels take float32, float16 and bfloat16, found {', '.join(sorted(map(str, found)))}"
        )
    if not (weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last_3d)):
        raise ValueError(
            f"weight must be contiguous or in channels_last_3d, found strides {weight.stride()} of "
            f"shape {tuple(weight.shape)}"
        )
    for name, tensor in (("x", x), ("joined", joined)):
        if not tensor.is_contiguous(memory_format=torch.channels_last_3d):
            raise ValueError(
                f"{name} must be contiguous in channels_last_3d, found strides {tensor.stride()} of "
                f"shape {tuple(tensor.shape)}"
            )


class _UpJoin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, joined: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_dtype = bias.dtype
        ctx.backend = backend
        ctx.mark_dirty(joined)
        (_triton_forward if backend == "triton" else reference.forward)(x, weight, bias, joined)
        return joined

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dcat: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if not any(ctx.needs_input_grad[:3]):
            return None, None, None, dcat, None
        if ctx.backend == "triton":
            # Whoever used the result chose its gradient's layout; a convolution keeps channels_last_3d.
            grads = _triton_backward(
                dcat.contiguous(memory_format=torch.channels_last_3d), x, weight, ctx.bias_dtype
            )
        else:
            grads = reference.backward(dcat, x, weight, ctx.bias_dtype)
        return *grads, dcat, None


@torch.library.custom_op("voxelrate::up_join", mutates_args={"joined"})
def _triton_forward(x: Tensor, weight: Tensor, bias: Tensor, joined: Tensor) -> None:
    from model.ops.up_join import launch

    launch.forward(x, weight, bias, joined)


@_triton_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, joined: Tensor) -> None:
    return None


@torch.library.custom_op("voxelrate::up_join_backward", mutates_args=())
def _triton_backward(
    dcat: Tensor, x: Tensor, weight: Tensor, bias_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    from model.ops.up_join import launch

    return launch.backward(dcat, x, weight, bias_dtype)


@_triton_backward.register_fake
def _(dcat: Tensor, x: Tensor, weight: Tensor, bias_dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    dx = x.new_empty_strided(x.shape, x.stride())
    dweight = weight.new_empty_strided(weight.shape, weight.stride())
    return dx, dweight, weight.new_empty(weight.shape[1], dtype=bias_dtype)
