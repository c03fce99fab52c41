"""The graph itself: its noise, and that the GPU's is the CPU's."""

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from nvidia.dali import backend

from pipelines import dali_builder, dali_loader
from pipelines.base import Position, Shard
from pipelines.cases import Schedule
from pipelines.dali_loader import (
    Draws,
    GraphConfig,
    check_dali,
    files_pipeline,
    patches_pipeline,
    volumes_pipeline,
)
from pipelines.dali_train_loader import _reason
from pipelines.data_loader import LoaderConfig, build
from pipelines.draw import Augmentation, noise_key
from pipelines.errors import DataError
from pipelines.graph_draws import draws_of
from tests.unit.pipelines.loaders import CPU, ONE, assert_equal, naive, take

SHAPE = (24, 20, 16)
SIGMA = 0.05
ALPHA = 1e-4
"""Significance of each test below: the draws are fixed, so that a correct build passes for ever."""

GRAPH = GraphConfig(
    device="cpu", device_id=None, batch_size=4, threads=2, patch_shape=SHAPE, layout="NCDHW",
    stored_half=False, half=False, noise_in_graph=True,
)  # fmt: skip


def schedule_of(batch_size: int, shard: Shard) -> Schedule:
    return Schedule(num_cases=12, shard=shard, batch_size=batch_size, ga_steps=1, last_batch="drop", seed=5)


def rank_noise(batch_size: int, noisy: set[int], epoch: int, shard: Shard) -> dict[int, np.ndarray]:
    schedule = schedule_of(batch_size, shard)
    steps = list(itertools.islice(schedule.steps(Position(epoch)), schedule.steps_per_epoch))
    zeros = [np.zeros((1, *SHAPE), np.float32)] * batch_size
    labels = [np.zeros((1, *SHAPE), np.uint8)] * batch_size

    def draws(number: int) -> tuple[Any, ...]:
        step = steps[number % len(steps)]
        drawn = [Augmentation((False,) * 3, 1.0, SIGMA * (place in noisy), 0) for place in step.positions]
        return draws_of(drawn, SHAPE, 5, step, noise_in_graph=True)

    pipeline = patches_pipeline(replace(GRAPH, batch_size=batch_size), lambda _: (zeros, labels), draws)
    found: dict[int, np.ndarray] = {}
    for step in steps:
        found |= zip(step.positions, np.array(pipeline.run()[0].as_tensor()), strict=True)
    return found


def test_the_graph_is_never_asked_for_empty_noise() -> None:
    # On a GPU DALI's operator ends the process with SIGFPE for a sample without voxels.
    step = next(iter(schedule_of(4, Shard(0, 1)).steps(Position(1))))
    drawn = [Augmentation((False,) * 3, 1.0, SIGMA * wanted, 0) for wanted in (0, 0, 1, 0)]
    shapes = Draws(*draws_of(drawn, SHAPE, 5, step, noise_in_graph=True)).noise
    assert [tuple(shape) for shape in shapes] == [(1, 1, 1, 1)] * 2 + [(1, *SHAPE), (1, 1, 1, 1)]


def noise(batch_size: int, noisy: set[int], epoch: int = 1, world_size: int = 1) -> dict[int, np.ndarray]:
    """The noise that the graph adds to the samples at the places ``noisy`` of an epoch of 12, by place."""
    found: dict[int, np.ndarray] = {}
    for rank in range(world_size):
        found |= rank_noise(batch_size, noisy, epoch, Shard(rank, world_size))
    return found


def test_only_samples_that_drew_noise_get_it() -> None:
    for place, image in noise(4, {1, 6, 7}).items():
        assert bool(image.any()) == (place in {1, 6, 7})


def test_noise_depends_on_the_sample_alone() -> None:
    every = noise(4, set(range(12)))
    # In whatever batch, among whatever neighbours, on whatever rank.
    for other in (noise(2, {1, 4, 7}), noise(3, {4}), noise(1, {1, 7, 11}, world_size=3)):
        for place, image in other.items():
            if image.any():
                np.testing.assert_array_equal(image, every[place])


def test_noise_is_normal_with_the_drawn_sigma_and_mean_zero() -> None:
    values = np.concatenate([image.ravel() for image in noise(4, set(range(12))).values()]) / SIGMA
    assert scipy.stats.kstest(values, "norm").pvalue > ALPHA
    assert abs(values.mean()) * np.sqrt(values.size) < scipy.stats.norm.isf(ALPHA / 2)
    low, high = scipy.stats.chi2.interval(1 - ALPHA, values.size)
    assert low < np.square(values).sum() < high


def test_noise_is_independent_across_samples_epochs_and_voxels() -> None:
    images = [*noise(4, set(range(12))).values(), *noise(4, set(range(12)), epoch=2).values()]
    bound = scipy.stats.norm.isf(ALPHA / 2) / np.sqrt(images[0].size)
    for one, other in itertools.combinations(images, 2):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < bound * 1.5
    for image in images:
        flat = image.ravel()
        for lag in (1, 2, 3, 4, SHAPE[2], SHAPE[1] * SHAPE[2]):
            assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < bound * 1.5


def test_keys_of_epochs_and_seeds_differ() -> None:
    keys = [noise_key(seed, epoch) for seed in range(40) for epoch in range(40)]
    assert len(set(keys)) == len(keys)


def test_noise_aside_the_graph_with_its_own_noise_is_the_definition(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU's way on the CPU: it differs from the truth by noise where that was drawn, nowhere else."""
    monkeypatch.setattr(dali_builder, "dali_noise", lambda *_: True)
    config = replace(config, loader="dali", num_workers=2)
    found, truth = take(config, 12), naive(config, 12)
    again = take(config, 12)
    assert_equal(found, again)
    differing = 0
    for mine, theirs in zip(found, truth, strict=True):
        assert torch.equal(mine.label, theirs.label)
        for image, expected in zip(mine.image, theirs.image, strict=True):
            if not torch.equal(image, expected):
                differing += 1
                # Both are noise of one sigma, at most 0.1, on the same image.
                assert 0 < (image - expected).std().item() < 0.1 * 2**0.5 * 1.1
    assert differing == 3, "this seed draws noise for three of the 24 samples"


def walk(pipeline: Any) -> list[Any]:
    found: dict[int, Any] = {}
    todo = list(pipeline._graph_out)
    while todo:
        operator = todo.pop().source
        if operator is not None and id(operator) not in found:
            found[id(operator)] = operator
            todo += [node for node in operator.inputs if hasattr(node, "source")]
    return list(found.values())


def schema(operator: Any) -> str:
    return getattr(operator._op, "schema_name", type(operator._op).__name__)


PIPELINES = {
    "patches": lambda config: patches_pipeline(config, *[lambda _: ()] * 2),
    "volumes": lambda config: volumes_pipeline(config, *[lambda _: ()] * 3),
    "files": lambda config: files_pipeline(config, ["a.npy"], ["b.npy"], *[lambda _: ()] * 2),
}
PIPELINES["gpudirect"] = PIPELINES["files"]


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("noise_in_graph", [False, True])
def test_the_graph_of_the_gpu_is_that_of_the_cpu(name: str, half: bool, noise_in_graph: bool) -> None:
    config = replace(
        GRAPH, stored_half=half, half=half, layout="NDHWC" if half else "NCDHW", noise_in_graph=noise_in_graph
    )
    gpu = replace(config, device="gpu", device_id=0, gpudirect=name == "gpudirect")
    on_cpu, on_gpu = walk(PIPELINES[name](config)), walk(PIPELINES[name](gpu))

    def counted(operators: list[Any]) -> Counter[str]:
        return Counter(map(schema, operators))

    # The transfers to the device, and their splitting into samples with and without brightness, come on top.
    extra = counted(on_gpu) - counted(on_cpu)
    assert set(extra) <= {"Copy", "_conditional__Split"}, extra
    assert not counted(on_cpu) - counted(on_gpu)
    for used in counted(on_cpu):
        assert used in backend.RegisteredCPUOps()
        assert used in backend.RegisteredGPUOps(), f"{used} exists for the CPU alone"
    if name != "patches":
        readers = {"readers__Numpy"} if gpu.gpudirect else set()
        heavy = [op for op in on_gpu if schema(op) in {"Slice", "Flip", "Cast"} | readers]
        assert heavy
        assert all(operator._op.device == "gpu" for operator in heavy)


def test_dali_must_take_the_state_of_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    check_dali(noise_in_graph=True)
    monkeypatch.setattr(dali_loader.backend, "GetSchema", lambda _: object())
    check_dali(noise_in_graph=False)
    with pytest.raises(DataError, match=r"DALI .* install DALI 2.4"):
        check_dali(noise_in_graph=True)


def test_the_place_of_augmentation_is_said(config: LoaderConfig) -> None:
    loader = build(replace(config, loader="dali", data_cache="host"), ONE, CPU)
    assert loader.description.startswith("dali on cpu, 1 threads, 0.0 GiB of shared host memory, ")
    assert loader.description.endswith("noise made on the host")
    loader.close()


def test_a_machine_without_gpudirect_storage_is_told_what_to_do() -> None:
    said = "Critical error in pipeline:\nError encountered:\n\nCUFile import failed: a.npy. Not registered."
    found = _reason(RuntimeError(said))
    assert found.startswith("CUFile import failed: a.npy. Not registered. GPUDirect Storage does not work")
    assert found.endswith("use --reader file or window")
