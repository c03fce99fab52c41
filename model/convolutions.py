"""Convolutions that may use 16-bit copies of their weights, and the two that have kernels of their own."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.ops import FusedBackend
from model.ops.head_conv import head_conv
from model.ops.stem_conv import stem_conv


class _InPlaceOf(torch.autograd.Function):
    """A copy in low precision takes its master's place; the gradient goes to the master, in its dtype."""

    @staticmethod
    def forward(ctx: Any, master: Tensor, shadow: Tensor) -> Tensor:
        ctx.dtype = master.dtype
        return shadow.view_as(shadow)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.to(ctx.dtype), None


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` with zero padding, which uses `ShadowWeights` under autocast where it has them."""

    shadows: "ShadowWeights | None" = None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = _parameters(self, x)
        return F.conv3d(x, weight, bias, self.stride, self.padding)


class ConvTranspose3d(nn.ConvTranspose3d):
    """``nn.ConvTranspose3d`` without padding, likewise."""

    shadows: "ShadowWeights | None" = None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        weight, bias = _parameters(self, x)
        return F.conv_transpose3d(x, weight, bias, self.stride)


def _parameters(module: Conv3d | ConvTranspose3d, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias for an input."""
    shadows, weight, bias = module.shadows, module.weight, module.bias
    if shadows is None or not torch.is_autocast_enabled(x.device.type):
        return weight, bias
    return shadows.of(weight), None if bias is None else shadows.of(bias)


class StemConv3d(nn.Conv3d):
    """The first 3x3x3 convolution, of one-channel images, by a fused operation."""

    def __init__(self, out_channels: int, backend: FusedBackend) -> None:
        super().__init__(1, out_channels, kernel_size=3, padding=1, bias=False)
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        return stem_conv(x, self.weight, backend=self.backend)


class HeadConv3d(nn.Conv3d):
    """The 1x1x1 convolution to logits, by a fused operation."""

    def __init__(self, in_channels: int, n_class: int, backend: FusedBackend) -> None:
        super().__init__(in_channels, n_class, kernel_size=1)
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return head_conv(x, self.weight, self.bias, backend=self.backend)


class ShadowWeights:
    """16-bit copies of the convolutions' parameters, so that autocast need not cast them in every step.

    The float32 masters stay the model's parameters: optimizer, checkpoints and DDP see nothing else. Make
    the copies when the model is on its device. They follow an optimizer's steps; after any other change of
    a master, all are copied again when one is used next.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        convolutions = [m for m in model.modules() if isinstance(m, Conv3d | ConvTranspose3d)]
        self._masters: list[Tensor] = [p for module in convolutions for p in module.parameters(recurse=False)]
        self._copies = [master.detach().to(dtype) for master in self._masters]
        self._place = {id(master): place for place, master in enumerate(self._masters)}
        self._versions = self._now()
        for module in convolutions:
            module.shadows = self

    def of(self, master: Tensor) -> Tensor:
        """A master's copy, for use in a forward pass."""
        place = self._place[id(master)]
        if master._version != self._versions[place]:
            self.refresh()
        return _InPlaceOf.apply(master, self._copies[place])

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy all masters, many to a launch on a GPU."""
        torch._foreach_copy_(self._copies, self._masters)
        self._versions = self._now()

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Refresh after every step of ``optimizer``, which a CUDA graph then replays."""
        optimizer.register_step_post_hook(lambda *_: self.refresh())

    def _now(self) -> list[int]:
        return [master._version for master in self._masters]
