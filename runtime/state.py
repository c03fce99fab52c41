"""What a training step works on."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from model.convolutions import ShadowWeights
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
    shadows: ShadowWeights | None = None
    """16-bit copies of the weights, which a replay does not look after when these change otherwise."""

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


class Snapshot:
    """The state dicts of a training state as they are now, in host memory."""

    def __init__(self, state: TrainState) -> None:
        self._kept = copied_to_host(state.state_dicts(""))

    def state_dicts(self, prefix: str) -> dict[str, Any]:
        """See `TrainState.state_dicts`."""
        return {prefix + name: value for name, value in self._kept.items()}


def copied_to_host(value: Any) -> Any:
    """A copy that goes on neither changing with training nor holding device memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied_to_host(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied_to_host(item) for item in value]
    return value
