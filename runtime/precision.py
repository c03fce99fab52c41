"""Mixed precision as torch defines it, and loss scales that are constant."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from runtime.optimizers import is_fused

AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class LossScaler(Protocol):
    """What a training step and a checkpoint need of ``torch.amp.GradScaler``."""

    def scale(self, outputs: Tensor) -> Tensor:
        """The loss times the scale."""

    def step(self, optimizer: Optimizer) -> float | None:
        """Undo the scale in the gradients and step."""

    def update(self) -> None:
        """Adapt the scale, at the end of a step."""

    def get_scale(self) -> float:
        """The scale; may wait for the device."""

    def is_enabled(self) -> bool:
        """Whether losses are scaled at all."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; empty where there is nothing to go on from."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""


class StaticLossScaler:
    """A constant loss scale, in place of ``torch.amp.GradScaler``.

    Nothing is checked for overflow and nothing adapts, so a step is always done; NVIDIA's MLPerf submissions
    use 32768. Powers of two change no digit of a gradient; other scales round each one twice more.

    Args:
        scale: Positive and finite.
        device_type: Of the parameters.

    Raises:
        ValueError: It is not.
    """

    def __init__(self, scale: float, device_type: str) -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"a loss scale must be positive and finite, found {scale}")
        self._scale = scale
        self._on_device = torch.full((), scale, dtype=torch.float32, device=device_type)

    def scale(self, outputs: Tensor) -> Tensor:
        """The loss times the scale."""
        return outputs * self._scale

    def step(self, optimizer: Optimizer) -> float | None:
        """Undo the scale in the gradients and step, without a wait for the device.

        torch's fused optimizers divide as they read the gradients (and leave them divided, as the others do).
        """
        if is_fused(optimizer):
            optimizer.grad_scale = self._on_device  # type: ignore[attr-defined]
            try:
                return optimizer.step()
            finally:
                del optimizer.grad_scale  # type: ignore[attr-defined]
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        if gradients:
            torch._foreach_mul_(gradients, 1 / self._scale)
        return optimizer.step()

    def update(self) -> None:
        """Leave the scale as it is."""

    def get_scale(self) -> float:
        """The scale."""
        return self._scale

    def is_enabled(self) -> bool:
        """Losses are scaled."""
        return True

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the command line has the scale."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing, not from a dynamic scaler either: the command line has the scale."""


@dataclass(frozen=True)
class Precision:
    """float32 throughout, or autocast to ``amp_dtype`` (float16 or bfloat16) where ``amp`` is set.

    Parameters, their gradients and the optimizer's moments are float32 in either case: autocast casts what
    the convolutions read. Losses are scaled under float16 alone, whose gradients may underflow, by
    ``static_loss_scale`` or, without one, dynamically.

    Raises:
        ValueError: A static loss scale without autocast to float16.
    """

    device_type: str
    amp: bool = False
    amp_dtype: str = "float16"
    static_loss_scale: float | None = None

    def __post_init__(self) -> None:
        if self.static_loss_scale is not None and not self._scales_losses:
            raise ValueError("a static loss scale is for autocast to float16")

    @property
    def _scales_losses(self) -> bool:
        return self.amp and self.amp_dtype == "float16"

    def autocast(self) -> torch.autocast:
        """The context in which forward passes and losses run."""
        return torch.autocast(self.device_type, AMP_DTYPES[self.amp_dtype], enabled=self.amp)

    def scaler(self) -> LossScaler:
        """A loss scaler; it does nothing except under float16."""
        if self.static_loss_scale is not None:
            return StaticLossScaler(self.static_loss_scale, self.device_type)
        return torch.amp.GradScaler(self.device_type, enabled=self._scales_losses)


def step_waits(scaler: LossScaler, optimizer: Optimizer) -> bool:
    """Whether ``scaler.step(optimizer)`` waits for the device, which a CUDA graph cannot record.

    A dynamic scaler asks the device whether a gradient has overflowed, unless torch's fused kernels do the
    step: they find out by themselves.
    """
    dynamic = isinstance(scaler, torch.amp.GradScaler) and scaler.is_enabled()
    return dynamic and not is_fused(optimizer)


def has_collapsed(scaler: LossScaler) -> bool:
    """Whether a dynamic scale is below 1, from 65536: gradients overflow float16 without any scale, step
    after step, and none of these is done. May wait for the device."""
    return isinstance(scaler, torch.amp.GradScaler) and scaler.is_enabled() and scaler.get_scale() < 1
