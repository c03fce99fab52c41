"""Builds a loader by name: what the training loop asks this room for."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipelines.base import BEGINNING, EvalLoader, Position, Shard, TrainLoader
from pipelines.config import LoaderConfig
from pipelines.dali_builder import build_dali, dali_noise
from pipelines.dataset import build_samples, schedule, split_cases
from pipelines.errors import DataError
from pipelines.evaluation_loader import VolumeLoader, shard_cases
from pipelines.pytorch_loader import PytorchTrainLoader
from pipelines.synthetic_loader import SyntheticTrainLoader, SyntheticVolumeLoader
from pipelines.volumes import FileVolumes, open_case


def build(
    config: LoaderConfig, shard: Shard, device: torch.device, start: Position = BEGINNING
) -> TrainLoader:
    """This rank's training loader, which begins after the batches that ``start`` says are done.

    Every rank must call it: the ranks of a machine share memory. Raises DataError if the data set, the
    settings or the machine do not allow it.
    """
    return BUILDERS[config.loader].train(config, shard, device, start)


def build_evaluation(config: LoaderConfig, shard: Shard, device: torch.device) -> EvalLoader:
    """This rank's share of the evaluation volumes. Raises DataError if there are none at all."""
    return BUILDERS[config.loader].evaluation(config, shard, device)


def fingerprint(config: LoaderConfig, shard: Shard, device: torch.device) -> dict[str, str]:
    """What, beside the seed, decides which samples come when, and what they are rounded to."""
    names = ("input_shape", "oversampling", "brightness", "last_batch", "sharding", "cache_dtype")
    found = {name: str(getattr(config, name)) for name in names}
    found["samples per step"] = str(schedule(config, shard).samples_per_step)
    found["noise"] = "DALI's" if config.loader == "dali" and dali_noise(config, device) else "the host's"
    if config.loader == "synthetic":
        return found | {"data": "synthetic"}
    cases = split_cases(config)[0]
    listed = zlib.crc32(" ".join(case.name for case in cases).encode())
    found["data"] = f"{len(cases)} cases ({listed:08x}) as {open_case(cases[0])[0].dtype}"
    if config.sharding == "static":
        # Which samples share a step depends on more than their number there.
        found |= {"ranks": str(shard.world_size), "batch_size": str(config.batch_size)}
    return found


@dataclass(frozen=True)
class Builder:
    """How one kind of loader is made."""

    train: Callable[[LoaderConfig, Shard, torch.device, Position], TrainLoader]
    evaluation: Callable[[LoaderConfig, Shard, torch.device], EvalLoader]


def _pytorch_train(config: LoaderConfig, shard: Shard, device: torch.device, start: Position) -> TrainLoader:
    steps = schedule(config, shard)
    cases = split_cases(config)[0]
    return PytorchTrainLoader(
        build_samples(config, shard, cases, FileVolumes(cases)),
        steps,
        device,
        num_workers=config.num_workers,
        prefetch=config.prefetch,
        layout=config.layout,
        start=start,
        timeout=config.timeout,
        image_dtype=getattr(torch, config.image_dtype),
    )


def _evaluation(config: LoaderConfig, shard: Shard, device: torch.device) -> EvalLoader:
    cases = split_cases(config)[1]
    if not cases:
        raise DataError(
            f"no case of {config.data_dir} is listed in {config.evaluation_cases}: nothing to evaluate"
        )
    own = shard_cases(cases, shard, config.val_input_shape, config.overlap)
    return VolumeLoader(own, device, config.layout, config.timeout)


def _synthetic_train(
    config: LoaderConfig, shard: Shard, device: torch.device, start: Position
) -> TrainLoader:
    return SyntheticTrainLoader(
        schedule(config, shard),
        config.input_shape,
        device,
        layout=config.layout,
        image_dtype=getattr(torch, config.image_dtype),
        start=start,
    )


def _synthetic_evaluation(config: LoaderConfig, shard: Shard, device: torch.device) -> EvalLoader:
    return SyntheticVolumeLoader(
        config.val_input_shape, shard, device, layout=config.layout, seed=config.seed
    )


BUILDERS = {
    "pytorch": Builder(_pytorch_train, _evaluation),
    "dali": Builder(build_dali, _evaluation),
    "synthetic": Builder(_synthetic_train, _synthetic_evaluation),
}
"""The loaders there are, by the name that ``--loader`` takes."""
