"""A network small enough to train in milliseconds, and runs of the loop on it."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.losses import DiceCELoss
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime.callbacks import Callback, CheckpointCallback
from runtime.checkpoint_writer import CheckpointWriter
from runtime.distributed_utils import World
from runtime.evaluation import InTurn
from runtime.inference import EvalResult
from runtime.keeper import Keeper
from runtime.logging import RunLog
from runtime.precision import Precision
from runtime.schedule import EvaluationSchedule, LearningRate
from runtime.signals import Signals
from runtime.state import TrainState
from runtime.training import Outcome, TrainingPlan, train

WORLD = World(torch.device("cpu"))


def build_state(ga_steps: int = 1, amp_dtype: str | None = None) -> TrainState:
    torch.manual_seed(0)
    model = Unet3D(1, 3, filters=(2, 4))
    precision = Precision("cpu", amp_dtype is not None, amp_dtype or "float16")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return TrainState(model, DiceCELoss(), optimizer, precision.scaler(), precision, ga_steps)


class RandomBatches:
    """The same stream of random patches for a seed, in batches of a size."""

    def __init__(self, batch_size: int = 2, batches_per_epoch: int = 3) -> None:
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(5)

        def patches() -> Iterator[tuple[Tensor, Tensor]]:
            while True:
                image = torch.randn(1, 1, 8, 8, 8, generator=generator)
                yield image, (image > 0.5).to(torch.uint8) + (image > 1).to(torch.uint8)

        stream = patches()
        while True:
            images, labels = zip(*islice(stream, self.batch_size), strict=True)
            yield Batch(torch.cat(images), torch.cat(labels))

    def __len__(self) -> int:
        return self.batches_per_epoch

    def close(self) -> None:
        pass


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def on_epoch_end(self, epoch: int, train_loss: float) -> None:
        self.events.append(("epoch", epoch))

    def on_evaluation(self, epoch: int, result: EvalResult, train_loss: float, state: TrainState) -> None:
        self.events.append(("evaluation", epoch))


class Scores:
    """An evaluator that returns prepared mean Dice scores in turn."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def __call__(self, model: nn.Module) -> EvalResult:
        score = self.scores.pop(0)
        return EvalResult(score, score, 0.5, 1)


def run(
    scores: tuple[float, ...],
    callbacks: tuple[Callback, ...] = (),
    lr: float = 0.01,
    epochs: int = 7,
    keeper: Keeper | None = None,
    state: TrainState | None = None,
    evaluator: Callable[[nn.Module], EvalResult] | None = None,
    **start: Any,
) -> Outcome:
    """Train in epochs of three steps, evaluated after every second; ``start`` is the plan's."""
    plan = TrainingPlan(
        epochs=epochs,
        steps_per_epoch=3,
        samples_per_epoch=6,
        learning_rate=LearningRate(base=lr),
        evaluation=EvaluationSchedule(start=2, every=2),
        quality_threshold=0.9,
        **start,
    )
    log = RunLog()
    keeper = keeper or Keeper(WORLD, Signals())
    evaluations = InTurn(evaluator or Scores(*scores), log)  # type: ignore[arg-type]
    return train(state or build_state(), RandomBatches(), evaluations, plan, callbacks, log, WORLD, keeper)  # type: ignore[arg-type]


def saving_to(path: Path, **stream: str) -> CheckpointCallback:
    return CheckpointCallback(CheckpointWriter(path, 2, print), seed=11, stream=stream)
