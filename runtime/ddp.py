"""How gradients are averaged over ranks: ``DistributedDataParallel`` with its options."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

MIB = 2**20


def _in_bfloat16(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """torch's hook under another name: by its own it is refused with Gloo, which can sum bfloat16."""
    return default_hooks.bf16_compress_hook(group, bucket)


GRADIENT_HOOKS = {
    "float32": None,
    "float16": default_hooks.fp16_compress_hook,
    "bfloat16": _in_bfloat16,
}
"""By the dtype that goes over the wire: each rank's gradients are divided by their number, cast, summed."""


def distributed(
    model: nn.Module,
    device: torch.device,
    *,
    static_graph: bool,
    one_bucket: bool,
    gradient_dtype: str,
    group: dist.ProcessGroup | None = None,
) -> DistributedDataParallel:
    """The model with its gradients averaged over the ranks of ``group``, by default of all processes.

    Gradients are views of the buckets that are all-reduced, so averages are not copied back.

    Args:
        model: Is not copied.
        device: Of the model.
        static_graph: Every backward pass uses the same parameters and is followed by an average: buckets
            follow the order in which gradients come, and nothing looks for unused parameters. Not with
            gradient accumulation: ``no_sync`` makes PyTorch fail with an internal assertion, or leave
            gradients of later steps local (pytorch issue 143580, pull request 187732).
        one_bucket: All gradients in one all-reduce, after the backward pass, in place of buckets of 25 MiB
            that overlap with it.
        gradient_dtype: ``float32``, or ``float16`` or ``bfloat16`` for half the bytes; then a rank's gradient
            is rounded before the sum, and the sum too. float16 overflows at 65504, with any loss scale
            counted in.
        group: Whose ranks they are.

    Raises:
        ValueError: An unknown ``gradient_dtype``.
    """
    if gradient_dtype not in GRADIENT_HOOKS:
        raise ValueError(f"gradient dtype must be {', '.join(GRADIENT_HOOKS)}, found {gradient_dtype!r}")
    match_gradient_strides(model)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    wrapped = DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        process_group=group,
        gradient_as_bucket_view=True,
        static_graph=static_graph,
        # A size that is given is also the first bucket's, which is 1 MiB otherwise.
        bucket_cap_mb=size // MIB + 1 if one_bucket else None,
    )
    hook = GRADIENT_HOOKS[gradient_dtype]
    if hook is not None:
        wrapped.register_comm_hook(group, hook)
    return wrapped


def match_gradient_strides(model: nn.Module) -> None:
    """Let gradients have the strides of their parameters, also along axes of one element.

    There strides say nothing, and layers choose them freely: in ``channels_last_3d`` a 3x3x3 weight of one
    channel has (27, 1, 9, 3, 1) and may get a gradient of (27, 27, 9, 3, 1); a 1x1x1 weight has its trouble
    with the other axes. ``DistributedDataParallel`` compares them and warns that "Grad strides do not match
    bucket view strides". A hook on each such parameter gives its gradient a view with the right strides; it
    costs no kernel.
    """
    for p in model.parameters():
        if 1 in p.shape and p.requires_grad:
            p.register_hook(partial(_restrided, p.stride()))


def _restrided(strides: tuple[int, ...], gradient: Tensor) -> Tensor:
    same = zip(gradient.shape, gradient.stride(), strides, strict=True)
    if gradient.stride() != strides and all(size == 1 or own == asked for size, own, asked in same):
        return gradient.as_strided(gradient.shape, strides)
    return gradient
