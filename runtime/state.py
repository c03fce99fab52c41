"""What a training step works on."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from runtime.distributed_utils import unwrapped
from runtime.precision import Precision


@dataclass(frozen=True)
class TrainState:
    """All that a step changes, and what it needs to do so."""

    model: nn.Module
    loss_fn: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    precision: Precision
    ga_steps: int = 1

    def state_dicts(self, prefix: str) -> dict[str, Any]:
        """Model, optimizer and scaler under the reference's checkpoint keys (the scaler's is ours).

        Args:
            prefix: ``last`` or ``best``.
        """
        return {
            f"{prefix}_model_state_dict": unwrapped(self.model).state_dict(),
            f"{prefix}_optimizer_state_dict": self.optimizer.state_dict(),
            f"{prefix}_scaler_state_dict": self.scaler.state_dict(),
        }
