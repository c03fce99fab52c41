"""Training states small enough to step in milliseconds, launched or recorded, and batches for them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from model.losses import DiceCELoss
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime.lamb import Lamb
from runtime.optimizers import OptimizerConfig, build_optimizer
from runtime.precision import Precision
from runtime.schedule import LearningRate
from runtime.state import TrainState
from runtime.step_graph import StepGraph
from tests.unit.runtime.tape_recorder import TapeRecorder

SCHEDULE = LearningRate(base=0.05, initial=0.001, warmup_epochs=4, decay_epochs=(6,), decay_factor=0.5)


def build_state(
    optimizer: str = "sgd",
    amp_dtype: str | None = None,
    ga_steps: int = 1,
    normalization: str = "instancenorm",
    loss_fn: nn.Module | None = None,
    static_loss_scale: float | None = None,
) -> TrainState:
    torch.manual_seed(0)
    model = Unet3D(1, 3, normalization, filters=(2, 4))
    precision = Precision("cpu", amp_dtype is not None, amp_dtype or "float16", static_loss_scale)
    rate: Any = torch.tensor(0.1)
    build = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), rate, 0.9, nesterov=True, fused=True),
        "plain sgd": lambda: torch.optim.SGD(model.parameters(), rate, fused=True),
        "adam": lambda: torch.optim.Adam(model.parameters(), rate, fused=True, capturable=True),
        "lamb": lambda: Lamb(model.parameters(), rate),
        # Its learning rate is a number, and it has hooks for checkpoints.
        "ours": lambda: build_optimizer(model.parameters(), 0.1, OptimizerConfig(weight_decay=0.01))[0],
    }[optimizer]
    return TrainState(model, loss_fn or DiceCELoss(), build(), precision.scaler(), precision, ga_steps)


def recorded(
    state: TrainState, recorder: TapeRecorder | None = None, refresh: Callable[[], None] | None = None
) -> TrainState:
    parts = (state.model, state.optimizer, state.scaler, state.ga_steps)
    return replace(state, graph=StepGraph(*parts, recorder or TapeRecorder(), refresh))


class TwoBuffers:
    """A loader that fills two buffers in turn, and spoils a batch when the next one is asked for."""

    def __init__(self, shape: tuple[int, ...] = (2, 1, 8, 8, 8)) -> None:
        self.asked = 0
        self._generator = torch.Generator().manual_seed(5)
        self._buffers = [Batch(torch.empty(shape), torch.empty(shape, dtype=torch.uint8)) for _ in range(2)]

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        former, batch = self._buffers[(self.asked + 1) % 2], self._buffers[self.asked % 2]
        former.image.fill_(float("nan"))
        former.label.fill_(255)
        batch.image.normal_(generator=self._generator)
        batch.label.copy_(batch.image > 0.5).add_(batch.image > 1)
        self.asked += 1
        return batch


def everything(state: TrainState) -> list[Tensor]:
    """What a step changes."""
    moments = [value for kept in state.optimizer.state.values() for value in kept.values()]
    counts = [group["step"] for group in state.optimizer.param_groups if "step" in group]
    return [*state.model.parameters(), *state.model.buffers(), *counts, *moments]


def assert_same(a: TrainState, b: TrainState) -> None:
    for one, other in zip(everything(a), everything(b), strict=True):
        assert torch.equal(one, other)
    assert a.scaler.state_dict() == b.scaler.state_dict()


class Held(TapeRecorder):
    """Records, and does nothing when asked to replay."""

    def replay(self) -> None:
        self.replays += 1
