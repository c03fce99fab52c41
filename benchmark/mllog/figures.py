"""What one run's log says in numbers."""

from dataclasses import dataclass
from math import ceil

from benchmark.mllog.log import Event, Interval, Log, as_number, epoch_count, first_epoch
from benchmark.mllog.rates import evaluates_beside_training, training_rate
from preprocess.spec import TRAIN_SAMPLES

TARGET = 0.908
"""Mean Dice (training_rules.adoc of mlcommons/training_policies)."""
LAST_EPOCH = 10_000
"""Of 168 samples: where the rules give up on a run. The first evaluation is after 168,000 samples, so
that an ``epoch_num`` above this counts samples."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A score, and after how many epochs (a fraction where they are not whole) and samples."""

    epoch: float
    samples: float
    mean_dice: float | None
    """None where the log has no number, as after a divergence."""

    @property
    def on_target(self) -> bool:
        """Whether it ends a run."""
        return self.mean_dice is not None and self.mean_dice >= TARGET


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. None stands for what the log does not tell."""

    file: str
    status: str
    minutes: float
    """run_stop - run_start."""
    global_batch_size: float | None
    samples_per_epoch: float
    """As logged; else a whole number of batches, or where no batch size is logged, train_samples or 168."""
    counts_samples: bool | None
    """Whether ``epoch_num`` counts samples, as v3.1 and v4.0 want it, or epochs."""
    first_epoch: float
    """1, unless the run went on from a checkpoint."""
    evaluations: tuple[Evaluation, ...]
    evaluation_s: float | None
    """Seconds in all of them."""
    evaluates_beside_training: bool
    """Whether some accelerators trained while others evaluated."""
    images_per_s: float | None
    """Of training: the median over cycles."""
    estimator: str | None
    """How ``images_per_s`` was found."""

    @property
    def converged(self) -> bool:
        """Whether it counts: it says so, and reached the target."""
        return self.status == "success" and any(score.on_target for score in self.evaluations)

    @property
    def evaluation_count(self) -> int:
        """How many evaluations there were."""
        return len(self.evaluations)

    @property
    def samples(self) -> float | None:
        """Training samples at the last evaluation; of a run that converged, samples to converge."""
        return self.evaluations[-1].samples if self.evaluations else None

    @property
    def end_to_end_images_per_s(self) -> float | None:
        """Samples by the last evaluation over the whole time from run_start to run_stop."""
        if self.samples is None:
            return None
        return (self.samples - (self.first_epoch - 1) * self.samples_per_epoch) / (60 * self.minutes)

    @property
    def evaluation_share(self) -> float | None:
        """Part of the time from run_start to run_stop."""
        return None if self.evaluation_s is None else self.evaluation_s / (60 * self.minutes)


def figures(log: Log) -> Run:
    """The numbers of one run."""
    epoch = _samples_per_epoch(log)
    blocks, intervals = log.intervals("block"), log.intervals("eval")
    scores = [
        (number, event)
        for event in log.during("eval_accuracy")
        if (number := as_number(event.metadata.get("epoch_num", event.metadata.get("samples_count"))))
        is not None
    ]
    in_samples = _counts_samples(scores, blocks)
    images_per_s, estimator = training_rate(log, blocks, intervals, epoch, in_samples)
    return Run(
        file=log.path.name,
        status=log.status,
        minutes=log.run.seconds / 60,
        global_batch_size=log.count("global_batch_size"),
        samples_per_epoch=epoch,
        counts_samples=in_samples,
        first_epoch=_first_epoch(blocks, epoch),
        evaluations=tuple(
            Evaluation(
                epoch=number / epoch if in_samples else number,
                samples=number if in_samples else number * epoch,
                mean_dice=as_number(event.value),
            )
            for number, event in scores
        ),
        evaluation_s=sum(found.seconds for found in intervals) if intervals or not scores else None,
        evaluates_beside_training=evaluates_beside_training(log, blocks, intervals),
        images_per_s=images_per_s,
        estimator=estimator,
    )


def _counts_samples(scores: list[tuple[float, Event]], blocks: list[Interval]) -> bool | None:
    """Whether the numbers are samples: blocks of ours tell, for runs of any length; else their size does."""
    if any("epoch_num" not in event.metadata for _, event in scores):
        return True
    numbers = [number for number, _ in scores] or [sum(map(epoch_count, blocks))]
    for block in blocks:
        samples, epochs = as_number(block.metadata.get("samples_count")), epoch_count(block)
        if samples and epochs and (first_epoch(block) + epochs - 1) * samples / epochs in numbers:
            return True
    return max(numbers) > LAST_EPOCH if any(numbers) else None


def _samples_per_epoch(log: Log) -> float:
    if logged := log.count("samples_per_epoch"):
        return logged
    cases, batch = log.count("train_samples") or TRAIN_SAMPLES, log.count("global_batch_size")
    return ceil(cases / batch) * batch if batch else cases


def _first_epoch(blocks: list[Interval], samples_per_epoch: float) -> float:
    first = first_epoch(blocks[0]) if blocks else 0
    # NVIDIA's code from v3.1 on, which logs no samples_count, calls the first epoch 168.
    in_samples = first == samples_per_epoch and "samples_count" not in blocks[0].metadata
    return 1 if not first or in_samples else first
