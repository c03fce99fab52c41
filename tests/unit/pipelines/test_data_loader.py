from dataclasses import replace

import pytest
import torch

from pipelines.base import BEGINNING, Position, Shard
from pipelines.config import LOADERS
from pipelines.data_loader import (
    BUILDERS,
    LoaderConfig,
    build,
    build_evaluation,
    fingerprint,
    samples_of,
    schedule,
)
from pipelines.dataset import dataset_sizes, split_cases
from pipelines.errors import DataError

CPU = torch.device("cpu")
SYNTHETIC = LoaderConfig(
    loader="synthetic", batch_size=3, input_shape=(8, 10, 12), val_input_shape=(8, 10, 12), layout="NDHWC"
)


def test_an_unknown_loader_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="--loader mxnet is unknown; valid .* are: pytorch, dali, synthetic"):
        LoaderConfig(loader="mxnet")
    assert tuple(BUILDERS) == LOADERS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "--batch_size is 0"),
        ({"ga_steps": -1}, "--ga_steps is -1"),
        ({"prefetch": 0}, "--prefetch is 0"),
        ({"num_workers": -1}, "--num_workers is -1"),
        ({"oversampling": 1.5}, "--oversampling is 1.5"),
        ({"seed": -1}, "--seed is -1"),
        ({"seed": 2**63}, "--seed is 9223372036854775808"),
        ({"input_shape": (128, 0, 128)}, "--input_shape"),
    ],
)
def test_impossible_numbers_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LoaderConfig(**change)  # type: ignore[arg-type]


def test_sizes_are_those_of_the_split(config: LoaderConfig) -> None:
    assert dataset_sizes(config) == (7, 3)
    assert dataset_sizes(SYNTHETIC) == (168, 42)


@pytest.mark.parametrize(
    ("last_batch", "ga_steps", "steps"), [("drop", 1, 3), ("pad", 1, 4), ("drop", 2, 2), ("pad", 3, 6)]
)
def test_an_epoch_is_as_long_as_the_policy_says(
    config: LoaderConfig, last_batch: str, ga_steps: int, steps: int
) -> None:
    settings = replace(config, last_batch=last_batch, ga_steps=ga_steps)  # type: ignore[arg-type]
    loader = build(settings, Shard(), CPU)
    assert len(loader) == steps
    loader.close()


def test_a_batch_that_no_epoch_fills_names_the_way_out(config: LoaderConfig) -> None:
    with pytest.raises(DataError, match="7 training cases .* 8 samples .*--batch_size 4 .*--last_batch pad"):
        build(replace(config, batch_size=4), Shard(0, 2), CPU)


def test_synthetic_batches_look_like_real_ones(config: LoaderConfig) -> None:
    loader = build(SYNTHETIC, Shard(1, 2), CPU)
    assert len(loader) == 168 // 6
    stream = iter(loader)
    batches = [next(stream) for _ in range(5)]
    for image, label in batches:
        assert image.shape == label.shape == (3, 1, 8, 10, 12)
        assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
        assert image.is_contiguous(memory_format=torch.channels_last_3d)
        assert image.stride(1) == 1
        assert label.unique().tolist() == [0, 1, 2]
    assert not torch.equal(batches[0].image, batches[1].image)
    assert batches[4].image.data_ptr() == batches[0].image.data_ptr(), "nothing is made on the way"
    loader.close()


def test_synthetic_batches_depend_on_seed_rank_and_position() -> None:
    def image(seed: int = 0, rank: int = 0, start: Position = BEGINNING) -> torch.Tensor:
        return next(iter(build(replace(SYNTHETIC, seed=seed), Shard(rank, 2), CPU, start))).image

    stream = iter(build(SYNTHETIC, Shard(0, 2), CPU))
    batches = [next(stream).image.clone() for _ in range(30)]
    # 28 steps an epoch.
    for epoch, step, behind in ((1, 0, 0), (1, 3, 3), (2, 0, 28), (2, 1, 29)):
        assert torch.equal(image(start=Position(epoch, step)), batches[behind])
    starts = [Position(1, step) for step in range(4)]
    pools = [image(seed, rank, start) for seed in (0, 1) for rank in (0, 1) for start in starts]
    assert len({batch.numpy().tobytes() for batch in pools}) == 16


def test_synthetic_volumes_are_several_windows_large() -> None:
    loaders = [build_evaluation(SYNTHETIC, Shard(rank, 4), CPU) for rank in range(4)]
    volumes = [volume for loader in loaders for volume in loader]
    assert len({volume.case for volume in volumes}) == len(volumes) == sum(map(len, loaders)) == 42
    for _, image, label in volumes:
        assert image.shape == label.shape == (1, 1, 8, 15, 18)
        assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)


def test_a_fingerprint_tells_streams_apart(config: LoaderConfig) -> None:
    base = fingerprint(config, Shard(), CPU)
    assert base["data"].startswith("7 cases (")
    assert base["data"].endswith(") as float32")
    assert fingerprint(replace(config, num_workers=3, loader="dali", data_cache="host"), Shard(), CPU) == base
    assert fingerprint(replace(config, batch_size=1), Shard(1, 2), CPU) == base, "other ranks, same samples"
    others = [
        fingerprint(replace(config, **change), Shard(), CPU)  # type: ignore[arg-type]
        for change in (
            {"sharding": "static"}, {"batch_size": 3}, {"oversampling": 0.1}, {"brightness": "nvidia"},
            {"data_cache": "host", "cache_dtype": "float16"}, {"loader": "synthetic"},
        )
    ]  # fmt: skip
    assert all(other != base for other in others)
    static = replace(config, sharding="static")
    assert fingerprint(replace(static, batch_size=1), Shard(1, 2), CPU) != fingerprint(static, Shard(), CPU)
    # On a GPU DALI's own noise.
    assert fingerprint(config, Shard(), torch.device("cuda", 0)) == base
    assert fingerprint(replace(config, loader="dali"), Shard(), torch.device("cuda", 0))["noise"] == "DALI's"


@pytest.mark.parametrize("sharding", ["global", "static"])
@pytest.mark.parametrize(
    ("world", "batch", "ga", "last"), [(1, 2, 1, "drop"), (2, 1, 3, "pad"), (3, 1, 2, "drop")]
)
def test_samples_of_a_step_are_those_of_all_ranks_and_micro_batches(
    config: LoaderConfig, sharding: str, world: int, batch: int, ga: int, last: str
) -> None:
    settings = replace(config, sharding=sharding, batch_size=batch, ga_steps=ga, last_batch=last)  # type: ignore[arg-type]
    names = [case.name for case in split_cases(settings)[0]]
    ranks = [schedule(settings, Shard(rank, world)) for rank in range(world)]
    for epoch in (1, 4):
        streams = [rank.steps(Position(epoch)) for rank in ranks]
        for step in range(1, ranks[0].steps_per_epoch // ga + 1):
            consumed = [next(stream) for _ in range(ga) for stream in streams]
            expected = {
                (position, names[case])
                for part in consumed
                for position, case in zip(part.positions, part.cases, strict=True)
            }
            # Whichever rank asks.
            for rank in range(world):
                found = samples_of(settings, Shard(rank, world), epoch, step)
                assert len(found) == world * batch * ga
                assert set(found) == expected
                assert [sample.index for sample in found] == sorted(sample.index for sample in found)


def test_samples_of_a_step_that_does_not_exist(config: LoaderConfig) -> None:
    assert samples_of(config, Shard(), 2, 3)[-1].index == 5
    for step in (0, 4):
        with pytest.raises(DataError, match=f"step {step} is not one of an epoch's 3 steps"):
            samples_of(config, Shard(), 2, step)
    assert samples_of(SYNTHETIC, Shard(), 1, 1) == ()
