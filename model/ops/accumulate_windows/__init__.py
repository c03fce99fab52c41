"""The logits of sliding windows, weighted and added into those of the volume. Forward only."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from model.ops import why_no_triton
from model.ops.accumulate_windows import reference

LAUNCHES = {"voxelrate::accumulate_window": 1}
"""Kernels that each custom op launches: one for every window."""

Backend = Literal["reference", "triton"]

MOST_ELEMENTS = 2**31 - 1
"""Of a window's logits, which the kernel numbers in 32 bits (the volume's in 64)."""

_LOGITS = (torch.float32, torch.float16, torch.bfloat16)
_WEIGHTS = (torch.float64, torch.float32)


def accumulate_windows(
    result: Tensor,
    logits: Tensor,
    starts: Sequence[Sequence[int]],
    weights_d: Tensor,
    weights_h: Tensor,
    weights_w: Tensor,
    *,
    backend: Backend,
) -> None:
    """Add windows to a volume in place: ``result[:, k, place] += logits[b, k] * weights``, b after b.

    A voxel's weight is the product of its three, formed in the dtype of the weights and rounded to that of
    ``result``, in which everything else is computed. What of a window lies outside the volume is left out.
    Windows may overlap each other: they are added in order, so the result is the same every time. No
    gradient flows: the logits are taken as they are.

    Args:
        result: 1 x K x D x H x W, float32; the twin takes float64 as well.
        logits: B x K x d x h x w, floating point ("triton": float32, float16 or bfloat16).
        starts: Of each window the first voxel in ``result``, (D, H, W), which may be negative. Known to the
            host, so that nothing waits for the device.
        weights_d: d numbers, float64 or float32.
        weights_h: h numbers.
        weights_w: w numbers.
        backend: ``reference`` takes any memory layout; ``triton`` takes ``result`` and ``logits`` contiguous
            or in ``channels_last_3d``, each as it is.

    Raises:
        ValueError: An unknown backend, or shapes, dtypes, devices or layouts that do not fit.
    """
    weights = (weights_d, weights_h, weights_w)
    _check(result, logits, starts, weights)
    if backend == "triton":
        _check_for_kernel(result, logits, weights)
    elif backend != "reference":
        raise ValueError(f"backend must be reference or triton, found {backend!r}")
    add = _accumulate_window if backend == "triton" else reference.forward
    logits = logits.detach()
    for b, start in enumerate(starts):
        add(result, logits[b : b + 1], start, *weights)


def _check(
    result: Tensor, logits: Tensor, starts: Sequence[Sequence[int]], weights: tuple[Tensor, ...]
) -> None:
    if result.dim() != 5 or logits.dim() != 5 or (1, logits.shape[1]) != result.shape[:2]:
        raise ValueError(
            "result must be 1 x K x D x H x W and logits B x K x d x h x w, found "
            f"{tuple(result.shape)} and {tuple(logits.shape)}"
        )
    if result.dtype not in (torch.float32, torch.float64) or not logits.is_floating_point():
        raise ValueError(
            "result must be float32 or float64 and logits floating point, found "
            f"{result.dtype} and {logits.dtype}"
        )
    if any(len(start) != 3 for start in starts) or len(starts) != len(logits):
        raise ValueError(f"starts must be (D, H, W) of each of {len(logits)} windows, found {list(starts)}")
    if [tuple(weight.shape) for weight in weights] != [(size,) for size in logits.shape[2:]]:
        raise ValueError(
            f"weights must be vectors of the sizes of a window {tuple(logits.shape[2:])}, found "
            f"{', '.join(str(tuple(weight.shape)) for weight in weights)}"
        )
    if len({weight.dtype for weight in weights}) != 1 or weights[0].dtype not in _WEIGHTS:
        raise ValueError(
            f"weights must be all float64 or all float32, found {', '.join(str(w.dtype) for w in weights)}"
        )
    if len({tensor.device for tensor in (result, logits, *weights)}) != 1:
        raise ValueError("result, logits and weights must be on one device")


def _check_for_kernel(result: Tensor, logits: Tensor, weights: tuple[Tensor, ...]) -> None:
    if result.dtype != torch.float32 or logits.dtype not in _LOGITS:
        raise ValueError(
            "the kernel takes a float32 result and float32, float16 or bfloat16 logits, found "
            f"{result.dtype} and {logits.dtype}"
        )
    for name, tensor in (("result", result), ("logits", logits)):
        if not (tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last_3d)):
            raise ValueError(
                f"{name} must be contiguous or channels_last_3d, found strides {tensor.stride()} of "
                f"shape {tuple(tensor.shape)}"
            )
    if not all(weight.is_contiguous() for weight in weights):
        raise ValueError("weights must be contiguous")
    if logits.shape[1:].numel() > MOST_ELEMENTS:
        raise ValueError(
            f"the kernel takes windows of up to {MOST_ELEMENTS} logits, found {tuple(logits.shape[1:])}"
        )


@torch.library.custom_op("voxelrate::accumulate_window", mutates_args={"result"})
def _accumulate_window(
    result: Tensor,
    logits: Tensor,
    start: Sequence[int],
    weights_d: Tensor,
    weights_h: Tensor,
    weights_w: Tensor,
) -> None:
    if reason := why_no_triton(result.device):
        raise ValueError(f"backend triton cannot run on {result.device}: {reason}")
    from model.ops.accumulate_windows import triton as kernels

    kernels.forward(result, logits, start, weights_d, weights_h, weights_w)


@_accumulate_window.register_fake
def _(
    result: Tensor,
    logits: Tensor,
    start: Sequence[int],
    weights_d: Tensor,
    weights_h: Tensor,
    weights_w: Tensor,
) -> None:
    return None
