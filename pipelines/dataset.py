"""The data set that a configuration names: its cases, their schedule, and the samples made of them."""

from pipelines.base import Shard
from pipelines.cases import Case, Schedule, cases_of, find_cases, split
from pipelines.config import LoaderConfig
from pipelines.draw import DrawConfig
from pipelines.host_volumes import HostVolumes
from pipelines.samples import Samples
from pipelines.volumes import FileVolumes, Volumes
from preprocess.spec import EVAL_SAMPLES, TRAIN_SAMPLES, evaluation_ids


def split_cases(config: LoaderConfig) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """(training cases, evaluation cases). Raises DataError if ``data_dir`` is no folder of cases."""
    return split(find_cases(config.data_dir), evaluation_ids(config.evaluation_cases))


def dataset_sizes(config: LoaderConfig) -> tuple[int, int]:
    """(training cases, evaluation cases): what MLPerf logs as train_samples and eval_samples."""
    if config.loader == "synthetic":
        return TRAIN_SAMPLES, EVAL_SAMPLES
    training, evaluation = split_cases(config)
    return len(training), len(evaluation)


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


def build_samples(config: LoaderConfig, shard: Shard, cases: tuple[Case, ...], files: FileVolumes) -> Samples:
    """The samples of a run; every rank must call it, since the ranks of a machine share memory."""
    volumes: Volumes = files
    if config.data_cache == "host":
        volumes = HostVolumes(files, config.cache_dtype, shard.neighbours)
    draw_config = DrawConfig(
        patch_shape=config.input_shape, oversampling=config.oversampling, brightness=config.brightness
    )
    own = cases_of(shard, len(cases), config.seed, config.sharding)
    return Samples(cases, volumes, draw_config, config.seed, shard.neighbours, config.on_bad_case, own)
