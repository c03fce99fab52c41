"""Builds a loader by name: what the training loop asks this room for."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipelines.base import BEGINNING, EvalLoader, Position, Shard, TrainLoader
from pipelines.cases import Case, Schedule, cases_of, find_cases, split
from pipelines.config import LoaderConfig
from pipelines.dali_loader import DaliDevice, GraphConfig, check_dali
from pipelines.dali_train_loader import DaliTrainLoader, slots_needed
from pipelines.device_volumes import DeviceVolumes
from pipelines.draw import DrawConfig
from pipelines.errors import DataError
from pipelines.evaluation_loader import VolumeLoader, shard_cases
from pipelines.fronts import FileFront, Front, PatchFront, VolumeFront
from pipelines.pytorch_loader import PytorchTrainLoader
from pipelines.samples import Samples
from pipelines.synthetic_loader import SyntheticTrainLoader, SyntheticVolumeLoader
from pipelines.volumes import FileVolumes, HostVolumes, Volumes, open_case
from preprocess.spec import EVAL_SAMPLES, TRAIN_SAMPLES, evaluation_ids

_STEPS_PER_LIST = 1 << 14
"""Steps whose files a DALI reader is given at a time: more than MLPerf's 10,000 epochs of one case a rank."""


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
        sharding=config.sharding,
    )


def fingerprint(config: LoaderConfig, shard: Shard) -> dict[str, str]:
    """What, beside the seed, decides which samples come when, and what they are rounded to."""
    training, _ = dataset_sizes(config)
    names = ("input_shape", "oversampling", "brightness", "last_batch", "sharding", "cache_dtype")
    found = {name: str(getattr(config, name)) for name in names}
    found |= {
        "training cases": str(training),
        "samples per step": str(schedule(config, shard).samples_per_step),
        "data": "synthetic"
        if config.loader == "synthetic"
        else f"{open_case(_cases(config)[0][0])[0].dtype}",
    }
    if config.sharding == "static":
        found["ranks"] = str(shard.world_size)
    return found


@dataclass(frozen=True)
class Builder:
    """How one kind of loader is made."""

    train: Callable[[LoaderConfig, Shard, torch.device, Position], TrainLoader]
    evaluation: Callable[[LoaderConfig, Shard, torch.device], EvalLoader]
    sizes: Callable[[LoaderConfig], tuple[int, int]]


def _cases(config: LoaderConfig) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    return split(find_cases(config.data_dir), evaluation_ids(config.evaluation_cases))


def _samples(config: LoaderConfig, shard: Shard, cases: tuple[Case, ...], files: FileVolumes) -> Samples:
    volumes: Volumes = files
    if config.data_cache == "host":
        volumes = HostVolumes(files, config.cache_dtype, shard.neighbours)
    draw_config = DrawConfig(
        patch_shape=config.input_shape, oversampling=config.oversampling, brightness=config.brightness
    )
    return Samples(cases, volumes, draw_config, config.seed, shard.neighbours)


def _pytorch_train(config: LoaderConfig, shard: Shard, device: torch.device, start: Position) -> TrainLoader:
    steps = schedule(config, shard)
    cases = _cases(config)[0]
    return PytorchTrainLoader(
        _samples(config, shard, cases, FileVolumes(cases)),
        steps,
        device,
        num_workers=config.num_workers,
        prefetch=config.prefetch,
        layout=config.layout,
        start=start,
        timeout=config.timeout,
        image_dtype=getattr(torch, config.image_dtype),
    )


def dali_place(config: LoaderConfig, device: torch.device) -> DaliDevice:
    """Where ``dali`` augments for training on ``device``. Raises DataError where that is impossible."""
    if config.dali_device == "auto":
        return "gpu" if device.type == "cuda" else "cpu"
    if config.dali_device == "gpu" and device.type != "cuda":
        raise DataError("--dali_device gpu needs a CUDA device, and none is in use: pass auto or cpu")
    if config.data_cache == "device" and config.dali_device == "cpu" and device.type == "cuda":
        raise DataError(
            "--dali_device cpu cannot crop what --data_cache device keeps on the GPU: pass auto or gpu"
        )
    return config.dali_device


def dali_noise_in_graph(place: DaliDevice) -> bool:
    """Whether DALI draws noise itself: its CPU operator takes 80 ms of a core for a patch of 128^3, torch's
    normals on the host take 6."""
    return place == "gpu"


def _dali_train(config: LoaderConfig, shard: Shard, device: torch.device, start: Position) -> TrainLoader:
    place = dali_place(config, device)
    noise_in_graph = dali_noise_in_graph(place)
    check_dali(noise_in_graph)
    if config.reader == "gds" and place != "gpu":
        raise DataError("--reader gds needs --dali_device gpu, and so a CUDA device: use --reader file")
    steps = schedule(config, shard)
    cases = _cases(config)[0]
    files = FileVolumes(cases)
    samples = _samples(config, shard, cases, files)
    threads = max(1, config.num_workers)
    ahead = threads * config.prefetch
    front: Front
    image_dtype, stored = getattr(torch, config.image_dtype), files.dtype
    if config.data_cache == "device":
        own = cases_of(shard, len(cases), config.seed, config.sharding)
        volumes = DeviceVolumes(files, own, config.cache_dtype, device)
        stored = volumes.dtype
        front = VolumeFront(samples, volumes, seed=config.seed, noise_in_graph=noise_in_graph)
    elif config.reader != "window":
        front = FileFront(
            samples,
            files,
            seed=config.seed,
            noise_in_graph=noise_in_graph,
            steps_per_pipeline=_STEPS_PER_LIST,
            description="whole files" + (" by GPUDirect Storage" if config.reader == "gds" else ""),
        )
    else:
        stored = samples.dtype
        front = PatchFront(
            samples,
            batch_size=config.batch_size,
            slots=slots_needed(ahead),
            dtype=torch.float16 if stored == "float16" else torch.float32,
            seed=config.seed,
            page_lock=place == "gpu",
            noise_in_graph=noise_in_graph,
        )
    graph = GraphConfig(
        device=place,
        device_id=device.index if place == "gpu" else None,
        batch_size=config.batch_size,
        threads=threads,
        patch_shape=config.input_shape,
        layout=config.layout,
        stored_half=stored == "float16",
        # DALI has no bfloat16: that is cast on the way into the batch.
        half=config.image_dtype == "float16",
        noise_in_graph=noise_in_graph,
    )
    return DaliTrainLoader(
        front,
        samples,
        steps,
        graph,
        device,
        ahead=ahead,
        start=start,
        timeout=config.timeout,
        image_dtype=image_dtype,
    )


def _evaluation(config: LoaderConfig, shard: Shard, device: torch.device) -> EvalLoader:
    cases = _cases(config)[1]
    if not cases:
        raise DataError(
            f"no case of {config.data_dir} is listed in {config.evaluation_cases}: nothing to evaluate"
        )
    return VolumeLoader(shard_cases(cases, shard), device, config.layout)


def _sizes(config: LoaderConfig) -> tuple[int, int]:
    training, evaluation = _cases(config)
    return len(training), len(evaluation)


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
    "pytorch": Builder(_pytorch_train, _evaluation, _sizes),
    "dali": Builder(_dali_train, _evaluation, _sizes),
    "synthetic": Builder(
        _synthetic_train, _synthetic_evaluation, lambda config: (TRAIN_SAMPLES, EVAL_SAMPLES)
    ),
}
"""The loaders there are, by the name that ``--loader`` takes."""
