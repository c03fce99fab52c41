"""Builds a loader by name: what the training loop asks this room for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.base import BEGINNING, EvalLoader, Position, Shard, TrainLoader
from pipelines.cases import Case, LastBatch, Schedule, find_cases, split
from pipelines.draw import Brightness, DrawConfig, Shape
from pipelines.errors import DataError
from pipelines.evaluation_loader import VolumeLoader, shard_cases
from pipelines.pytorch_loader import PytorchTrainLoader
from pipelines.slots import Layout
from pipelines.synthetic_loader import SyntheticTrainLoader, SyntheticVolumeLoader
from preprocess.spec import EVAL_SAMPLES, EVALUATION_CASES_FILE, TRAIN_SAMPLES, evaluation_ids


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Everything that decides which batches come, and how.

    Raises DataError for a loader that does not exist or numbers that make no loader.
    """

    loader: str = "pytorch"
    """A key of ``BUILDERS``."""
    data_dir: Path = Path("/data")
    """Folder of ``case_*_x.npy`` and ``case_*_y.npy``; the synthetic loader does not look at it."""
    evaluation_cases: Path = EVALUATION_CASES_FILE
    """File with the ids of the evaluation cases."""
    batch_size: int = 2
    """Per rank and micro-batch."""
    ga_steps: int = 1
    """Micro-batches per optimiser step."""
    input_shape: Shape = (128, 128, 128)
    """D x H x W of a training patch."""
    val_input_shape: Shape = (128, 128, 128)
    """D x H x W of a sliding window: sets the size of synthetic evaluation volumes."""
    oversampling: float = 0.4
    """Probability that a patch is cropped around foreground."""
    brightness: Brightness = "reference"
    last_batch: LastBatch = "drop"
    seed: int = 0
    """Of order, crops and augmentation; in [0, 2**63). The same on all ranks."""
    num_workers: int = 4
    """Worker processes per rank; 0 reads in the training process."""
    prefetch: int = 2
    """Batches each worker is ahead."""
    layout: Layout = "NCDHW"

    def __post_init__(self) -> None:
        if self.loader not in BUILDERS:
            raise DataError(f"--loader {self.loader} is unknown; valid loaders are: {', '.join(BUILDERS)}")
        for name in ("batch_size", "ga_steps", "prefetch"):
            if getattr(self, name) < 1:
                raise DataError(f"--{name} is {getattr(self, name)}, expected at least 1")
        if self.num_workers < 0:
            raise DataError(f"--num_workers is {self.num_workers}, expected at least 0")
        if not 0 <= self.oversampling <= 1:
            raise DataError(f"--oversampling is {self.oversampling}, expected a probability")
        if not 0 <= self.seed < 2**63:
            raise DataError(f"--seed is {self.seed}, expected 0 to 2**63 - 1")
        if min(*self.input_shape, *self.val_input_shape) < 1:
            raise DataError("--input_shape and --val_input_shape need positive sizes")


def build(
    config: LoaderConfig, shard: Shard, device: torch.device, start: Position = BEGINNING
) -> TrainLoader:
    """This rank's training loader, which begins after the batches that ``start`` says are done.

    Raises DataError if the data set, the settings or the machine do not allow it.
    """
    return BUILDERS[config.loader].train(config, shard, device, start)


def build_evaluation(config: LoaderConfig, shard: Shard, device: torch.device) -> EvalLoader:
    """This rank's share of the evaluation volumes. Raises DataError if there are none at all."""
    return BUILDERS[config.loader].evaluation(config, shard, device)


def dataset_sizes(config: LoaderConfig) -> tuple[int, int]:
    """(training cases, evaluation cases): what MLPerf logs as train_samples and eval_samples."""
    return BUILDERS[config.loader].sizes(config)


def schedule(config: LoaderConfig, shard: Shard) -> Schedule:
    """Which samples this rank sees when, and how many make an epoch."""
    return Schedule(
        num_cases=dataset_sizes(config)[0],
        shard=shard,
        batch_size=config.batch_size,
        ga_steps=config.ga_steps,
        last_batch=config.last_batch,
        seed=config.seed,
    )


@dataclass(frozen=True)
class Builder:
    """How one kind of loader is made."""

    train: Callable[[LoaderConfig, Shard, torch.device, Position], TrainLoader]
    evaluation: Callable[[LoaderConfig, Shard, torch.device], EvalLoader]
    sizes: Callable[[LoaderConfig], tuple[int, int]]


def _cases(config: LoaderConfig) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    return split(find_cases(config.data_dir), evaluation_ids(config.evaluation_cases))


def _pytorch_train(config: LoaderConfig, shard: Shard, device: torch.device, start: Position) -> TrainLoader:
    draw_config = DrawConfig(
        patch_shape=config.input_shape, oversampling=config.oversampling, brightness=config.brightness
    )
    return PytorchTrainLoader(
        _cases(config)[0],
        schedule(config, shard),
        draw_config,
        device,
        num_workers=config.num_workers,
        prefetch=config.prefetch,
        layout=config.layout,
        start=start,
    )


def _pytorch_evaluation(config: LoaderConfig, shard: Shard, device: torch.device) -> EvalLoader:
    cases = _cases(config)[1]
    if not cases:
        raise DataError(
            f"no case of {config.data_dir} is listed in {config.evaluation_cases}: nothing to evaluate"
        )
    return VolumeLoader(shard_cases(cases, shard), device, config.layout)


def _pytorch_sizes(config: LoaderConfig) -> tuple[int, int]:
    training, evaluation = _cases(config)
    return len(training), len(evaluation)


def _synthetic_train(
    config: LoaderConfig, shard: Shard, device: torch.device, start: Position
) -> TrainLoader:
    return SyntheticTrainLoader(
        schedule(config, shard), config.input_shape, device, layout=config.layout, start=start
    )


def _synthetic_evaluation(config: LoaderConfig, shard: Shard, device: torch.device) -> EvalLoader:
    return SyntheticVolumeLoader(
        config.val_input_shape, shard, device, layout=config.layout, seed=config.seed
    )


BUILDERS = {
    "pytorch": Builder(_pytorch_train, _pytorch_evaluation, _pytorch_sizes),
    "synthetic": Builder(
        _synthetic_train, _synthetic_evaluation, lambda config: (TRAIN_SAMPLES, EVAL_SAMPLES)
    ),
}
"""The loaders there are, by the name that ``--loader`` takes."""
