"""What a training step works on."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from runtime.distributed_utils import unwrapped
from runtime.precision import LossScaler, Precision
from runtime.step_graph import StepGraph


@dataclass(frozen=True)
class TrainState:
    """All that a step changes, and what it needs to do so."""

    model: nn.Module
    loss_fn: nn.Module
    optimizer: Optimizer
    scaler: LossScaler
    precision: Precision
    ga_steps: int = 1
    graph: StepGraph | None = None
    """Replays the step on a GPU instead of launching its kernels one by one."""

    def close(self) -> None:
        """Give back the graph's memory; to call before the process group ends, and after the last step."""
        if self.graph is not None:
            self.graph.close()

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
