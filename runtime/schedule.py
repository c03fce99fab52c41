"""Learning rate and evaluation points as pure functions of the epoch. Epochs count from 1."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from preprocess.spec import TRAIN_SAMPLES

MLPERF_FIRST_EVALUATION = 1000 * TRAIN_SAMPLES
MLPERF_EVALUATION_INTERVAL = 20 * TRAIN_SAMPLES
"""Training samples before the first and between evaluations (training_rules.adoc of training_policies).

The 168 is the benchmark's, whatever the data set's size.
"""


@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """The reference's schedule: a linear ramp per epoch, then steps down at milestones.

    Epoch ``e`` of the ramp runs at ``initial + (base - initial) * e / warmup_epochs``, so the first epoch
    is already above ``initial`` and epoch ``warmup_epochs`` at ``base``. A milestone ``m`` multiplies the
    rate of all epochs after ``m`` by ``decay_factor``; milestones inside the ramp have no effect, because
    the reference's ramp overwrites them.
    """

    base: float = 1.0
    initial: float = 1e-4
    warmup_epochs: int = 0
    decay_epochs: tuple[int, ...] = ()
    decay_factor: float = 1.0

    def at(self, epoch: int) -> float:
        """Learning rate of epoch ``epoch``."""
        if epoch <= self.warmup_epochs:
            return self.initial + (self.base - self.initial) * (epoch / self.warmup_epochs)
        passed = sum(max(self.warmup_epochs, 1) <= milestone < epoch for milestone in self.decay_epochs)
        return self.base * self.decay_factor**passed


@dataclass(frozen=True, kw_only=True)
class EvaluationSchedule:
    """Evaluate after epoch ``start`` and then after every ``every`` epochs."""

    start: int = 1000
    every: int = 20

    def due(self, epoch: int) -> bool:
        """Whether an evaluation follows epoch ``epoch``."""
        return epoch >= self.start and (epoch - self.start) % self.every == 0


def mlperf_evaluation(samples_per_epoch: int) -> EvaluationSchedule:
    """MLPerf's points, in epochs of ``samples_per_epoch`` samples, rounded up."""
    return EvaluationSchedule(
        start=ceil(MLPERF_FIRST_EVALUATION / samples_per_epoch),
        every=ceil(MLPERF_EVALUATION_INTERVAL / samples_per_epoch),
    )


@dataclass(frozen=True, kw_only=True)
class SaveEvery:
    """How often a run saves, beside after evaluations and at its end."""

    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Block:
    """Epochs trained without interruption; MLPerf logs training in such blocks."""

    epochs: Sequence[int]
    evaluates: bool
    """Whether an evaluation follows."""


def blocks(first_epoch: int, last_epoch: int, evaluation: EvaluationSchedule) -> Iterator[Block]:
    """The epochs from ``first_epoch`` to ``last_epoch``, cut after each epoch with an evaluation.

    What comes before the first evaluation is cut into blocks of the same length, so that a log tells the
    rate of training from its beginning.
    """
    begin = first_epoch
    for epoch in range(first_epoch, last_epoch + 1):
        if (epoch - evaluation.start) % evaluation.every == 0 or epoch == last_epoch:
            yield Block(range(begin, epoch + 1), evaluation.due(epoch))
            begin = epoch + 1
