"""The training loss in one piece: the mean of (1 - soft Dice) and cross entropy, from logits and labels.

It is `model.losses.DiceCELoss`. For the gradient it keeps the logits, the labels and two numbers per sample
and class; the softmax is computed again.
"""

import importlib
from functools import cache
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.ops import why_no_triton
from model.ops.dice_ce import reference

LAUNCHES = {"voxelrate::dice_ce": 2, "voxelrate::dice_ce_backward": 1}
"""Kernels that each custom op launches: the sums and their merge; the gradient."""

MOST_CLASSES = 16
"""Classes that the kernels take: they hold all classes of a voxel in registers."""

_KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@cache
def _kernels(device: torch.device) -> ModuleType:
    """``triton.py``, imported when first needed. Raises ValueError where its kernels cannot run."""
    if (reason := why_no_triton(device)) is not None:
        raise ValueError(reason)
    return importlib.import_module("model.ops.dice_ce.triton")


@torch.library.custom_op("voxelrate::dice_ce", mutates_args=())
def _forward(logits: Tensor, label: Tensor, include_background: bool) -> tuple[Tensor, Tensor]:
    return _kernels(logits.device).forward(logits, label, include_background)


@_forward.register_fake
def _(logits: Tensor, label: Tensor, include_background: bool) -> tuple[Tensor, Tensor]:
    n_sample, n_class = logits.shape[:2]
    n_dice = n_class if include_background else n_class - 1
    return (
        logits.new_empty((), dtype=torch.float32),
        logits.new_empty((2, n_sample, n_dice), dtype=torch.float32),
    )


@torch.library.custom_op("voxelrate::dice_ce_backward", mutates_args=())
def _backward(grad: Tensor, logits: Tensor, label: Tensor, coefficients: Tensor) -> Tensor:
    return _kernels(logits.device).backward(grad, logits, label, coefficients)


@_backward.register_fake
def _(grad: Tensor, logits: Tensor, label: Tensor, coefficients: Tensor) -> Tensor:
    return torch.empty_like(logits)


class _DiceCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, include_background: bool, backend: str) -> Tensor:
        forward = reference.forward if backend == "reference" else _forward
        loss, coefficients = forward(logits, label, include_background)
        ctx.save_for_backward(logits, label, coefficients)
        ctx.backend = backend
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        backward = reference.backward if ctx.backend == "reference" else _backward
        return backward(grad, *ctx.saved_tensors), None, None, None


def _check(logits: Tensor, label: Tensor) -> None:
    """Raise ValueError unless these are logits N x K x D x H x W and integer labels N x 1 x D x H x W."""
    if logits.dim() != 5 or label.shape != (len(logits), 1, *logits.shape[2:]):
        raise ValueError(
            f"logits must be N x K x D x H x W and labels N x 1 x D x H x W, found {tuple(logits.shape)} "
            f"and {tuple(label.shape)}"
        )
    if logits.shape[1] < 2 or 0 in logits.shape:
        raise ValueError(
            f"logits must have two classes or more and at least one voxel, found {tuple(logits.shape)}"
        )
    if not logits.is_floating_point() or label.is_floating_point() or label.is_complex():
        raise ValueError(
            f"logits must be floating point and labels integers, found {logits.dtype} and {label.dtype}"
        )
    if logits.device != label.device:
        raise ValueError(f"logits and labels must be on one device, found {logits.device} and {label.device}")


def _check_for_kernels(logits: Tensor, label: Tensor) -> None:
    """Raise ValueError for what ``triton.py`` does not take."""
    if logits.dtype not in _KERNEL_DTYPES or label.dtype != torch.uint8:
        raise ValueError(
            f"the triton backend takes float32, float16 or bfloat16 logits and uint8 labels, found "
            f"{logits.dtype} and {label.dtype}"
        )
    if logits.shape[1] > MOST_CLASSES:
        raise ValueError(f"the triton backend takes up to {MOST_CLASSES} classes, found {logits.shape[1]}")
    if not (logits.is_contiguous() or logits.is_contiguous(memory_format=torch.channels_last_3d)):
        raise ValueError(
            f"the triton backend takes channels_last_3d or contiguous logits, found strides {logits.stride()}"
        )
    if not label.is_contiguous():
        raise ValueError(f"the triton backend takes contiguous labels, found strides {label.stride()}")


def dice_ce(
    logits: Tensor,
    label: Tensor,
    *,
    include_background: bool = False,
    backend: Literal["reference", "triton"],
) -> Tensor:
    """Half of the mean of 1 - Dice over samples and classes, and half of the mean cross entropy over voxels.

    Args:
        logits: N x K x D x H x W, K >= 2, floating point. "triton" takes float32, float16 and bfloat16,
            ``channels_last_3d`` or contiguous, and K <= 16.
        label: Class of each voxel, N x 1 x D x H x W, of any integer dtype and layout ("triton": uint8,
            contiguous).
        include_background: Whether class 0 takes part in Dice; the cross entropy always counts it.
        backend: ``reference`` or ``triton``.

    Returns:
        The loss, a float32 scalar (float64 for float64 logits); autocast changes nothing. 16-bit logits are
        computed in float32. Their gradient has their dtype and layout.

    Raises:
        ValueError: for shapes, dtypes, layouts or devices other than these, or an unknown backend.
        IndexError: for a label outside 0 .. K-1 with "reference" on a CPU. Kernels cannot raise: with
            "triton" the loss is NaN then, and so is the gradient of that voxel.
    """
    _check(logits, label)
    if backend == "triton":
        _check_for_kernels(logits, label)
    elif backend != "reference":
        raise ValueError(f"backend must be reference or triton, found {backend!r}")
    loss: Tensor = _DiceCE.apply(logits, label, include_background, backend)
    return loss
