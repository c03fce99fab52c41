"""Builds a loader by name: what the training loop asks this room for."""

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from pipelines.base import BEGINNING, EvalLoader, Position, Shard, TrainLoader
from pipelines.config import LoaderConfig
from pipelines.dataset import build_samples, schedule, split_cases
from pipelines.errors import DataError
from pipelines.evaluation_loader import VolumeLoader, shard_cases
from pipelines.pytorch_loader import PytorchTrainLoader, slots_needed
from pipelines.room import check_room, pytorch_needs
from pipelines.synthetic_loader import SyntheticTrainLoader, SyntheticVolumeLoader
from pipelines.volumes import FileVolumes


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
    found["noise"] = BUILDERS[config.loader].noise(config, device)
    if config.loader == "synthetic":
        return found | {"data": "synthetic"}
    cases = split_cases(config)[0]
    listed = zlib.crc32(" ".join(case.name for case in cases).encode())
    dtype = FileVolumes(cases, config.on_bad_case).dtype
    found["data"] = f"{len(cases)} cases ({listed:08x}) as {dtype}"
    if config.sharding == "static":
        # Which samples share a step depends on more than their number there.
        found |= {"ranks": str(shard.world_size), "batch_size": str(config.batch_size)}
    return found


class Sample(NamedTuple):
    """A training sample as it is scheduled; under ``--on_bad_case skip`` another case may stand in for it."""

    index: int  # type: ignore[assignment]  # a tuple's method of that name is not missed
    """Its place in the global order of the epoch: with seed and epoch, what its draw depends on."""
    case: str
    """``case_00003``."""


def samples_of(config: LoaderConfig, shard: Shard, epoch: int, step: int) -> tuple[Sample, ...]:
    """The samples that all ranks together consume in optimiser step ``step`` of ``epoch``, both counted from
    1, in the order of their places; none of a synthetic loader.

    Raises DataError if an epoch has no such step.
    """
    if config.loader == "synthetic":
        return ()
    steps = schedule(config, shard)
    per_epoch = steps.steps_per_epoch // config.ga_steps
    if not 1 <= step <= per_epoch:
        raise DataError(f"step {step} is not one of an epoch's {per_epoch} steps: other settings?")
    cases = split_cases(config)[0]
    start = Position(epoch, (step - 1) * config.ga_steps)
    ranks = (replace(steps, shard=replace(shard, rank=rank)) for rank in range(shard.world_size))
    found = [
        Sample(index, cases[case].name)
        for of_rank in ranks
        for part in itertools.islice(of_rank.steps(start), config.ga_steps)
        for index, case in zip(part.positions, part.cases, strict=True)
    ]
    return tuple(sorted(found))


@dataclass(frozen=True)
class Builder:
    """How one kind of loader is made."""

    train: Callable[[LoaderConfig, Shard, torch.device, Position], TrainLoader]
    evaluation: Callable[[LoaderConfig, Shard, torch.device], EvalLoader]
    noise: Callable[[LoaderConfig, torch.device], str]
    """Who draws it."""


def _dali_train(config: LoaderConfig, shard: Shard, device: torch.device, start: Position) -> TrainLoader:
    # DALI takes a quarter of a second to be imported, which those who do not use it need not wait for.
    from pipelines.dali_builder import build_dali

    return build_dali(config, shard, device, start)


def _dali_noise(config: LoaderConfig, device: torch.device) -> str:
    from pipelines.dali_builder import dali_noise

    return "DALI's" if dali_noise(config, device) else _host_noise(config, device)


def _host_noise(config: LoaderConfig, device: torch.device) -> str:
    return "the host's"


def _pytorch_train(config: LoaderConfig, shard: Shard, device: torch.device, start: Position) -> TrainLoader:
    steps = schedule(config, shard)
    cases = split_cases(config)[0]
    samples = build_samples(config, shard, cases, FileVolumes(cases, config.on_bad_case))
    slots = slots_needed(config.num_workers, config.prefetch)
    check_room(pytorch_needs(config, slots), samples.host_cache, shard.neighbours)
    return PytorchTrainLoader(
        samples,
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
    "pytorch": Builder(_pytorch_train, _evaluation, _host_noise),
    "dali": Builder(_dali_train, _evaluation, _dali_noise),
    "synthetic": Builder(_synthetic_train, _synthetic_evaluation, _host_noise),
}
"""The loaders there are, by the name that ``--loader`` takes."""
