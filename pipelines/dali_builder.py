"""Builds the DALI loader: which front feeds it, where it works, and how far ahead."""

import torch

from pipelines.base import Position, Shard, TrainLoader
from pipelines.cases import cases_of
from pipelines.config import DaliDevice, LoaderConfig
from pipelines.dali_loader import GraphConfig, check_dali
from pipelines.dali_train_loader import DaliTrainLoader, slots_needed
from pipelines.dataset import build_samples, schedule, split_cases
from pipelines.device_volumes import DeviceVolumes, device_bytes
from pipelines.errors import DataError
from pipelines.file_front import FileFront
from pipelines.fronts import Front
from pipelines.patch_front import PatchFront
from pipelines.room import check_room, dali_needs
from pipelines.volume_front import VolumeFront
from pipelines.volumes import FileVolumes

_STEPS_PER_LIST = 1 << 14
"""Steps whose files a DALI reader is given at a time: more than MLPerf's 10,000 epochs of one case a rank."""


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


def dali_noise(config: LoaderConfig, device: torch.device) -> bool:
    """Whether DALI draws noise itself: its CPU operator takes 80 ms of a core for a patch of 128^3, torch's
    normals on the host take 6."""
    return dali_place(config, device) == "gpu"


def build_dali(config: LoaderConfig, shard: Shard, device: torch.device, start: Position) -> TrainLoader:
    """See ``data_loader.build``."""
    place = dali_place(config, device)
    noise_in_graph = dali_noise(config, device)
    check_dali(noise_in_graph)
    if config.reader == "gds" and place != "gpu":
        raise DataError("--reader gds needs --dali_device gpu, and so a CUDA device: use --reader file")
    steps = schedule(config, shard)
    cases = split_cases(config)[0]
    files = FileVolumes(cases, config.on_bad_case)
    samples = build_samples(config, shard, cases, files)
    threads = max(1, config.num_workers)
    ahead = threads * config.prefetch
    own = cases_of(shard, len(cases), config.seed, config.sharding)
    cached = device_bytes(files, own, config.cache_dtype) if config.data_cache == "device" else 0
    slots = slots_needed(ahead) if config.reader == "window" and not cached else 0
    needs = dali_needs(config, place, threads, slots, samples.dtype.itemsize, files.shapes, cached)
    check_room(needs, samples.host_cache, shard.neighbours)
    front: Front
    image_dtype, stored = getattr(torch, config.image_dtype), files.dtype
    if config.data_cache == "device":
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
            slots=slots,
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
        gpudirect=config.reader == "gds",
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
