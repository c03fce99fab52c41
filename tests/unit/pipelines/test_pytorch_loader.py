import itertools
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.base import ALONE, Batch, Position, Shard
from pipelines.cases import find_cases, split
from pipelines.data_loader import LoaderConfig, build, schedule
from pipelines.draw import DrawConfig
from pipelines.pytorch_loader import PytorchTrainLoader
from pipelines.samples import Samples
from pipelines.volumes import FileVolumes
from preprocess.spec import evaluation_ids
from tests.unit.pipelines.loaders import CPU, ONE, alive, assert_equal, naive, take, workers_of


@pytest.fixture(autouse=True)
def _no_orphans() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 1), (1, 1), (1, 3), (2, 2), (3, 1)])
def test_samples_are_the_same_with_any_workers(config: LoaderConfig, workers: int, prefetch: int) -> None:
    # Three batches an epoch: into the fourth epoch.
    assert_equal(take(replace(config, num_workers=workers, prefetch=prefetch), 11), naive(config, 11))


def test_spawned_workers_give_the_same(config: LoaderConfig) -> None:
    cases = split(find_cases(config.data_dir), evaluation_ids(config.evaluation_cases))[0]
    draw_config = DrawConfig(patch_shape=config.input_shape, oversampling=config.oversampling)
    loader = PytorchTrainLoader(
        Samples(cases, FileVolumes(cases), draw_config, config.seed, ALONE),
        schedule(config, ONE),
        CPU,
        num_workers=1,
        prefetch=2,
        layout="NCDHW",
        start=Position(),
        timeout=60,
        start_method="spawn",
    )
    found = [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(loader, 5)]
    loader.close()
    assert_equal(found, naive(config, 5))


@pytest.mark.parametrize("workers", [0, 1])
def test_two_ranks_read_what_one_rank_would(config: LoaderConfig, workers: int) -> None:
    whole = take(config, 8)
    ranks = [take(replace(config, batch_size=1, num_workers=workers), 8, Shard(rank, 2)) for rank in range(2)]
    for k, batch in enumerate(whole):
        assert torch.equal(batch.image, torch.cat([rank[k].image for rank in ranks]))
        assert torch.equal(batch.label, torch.cat([rank[k].label for rank in ranks]))


@pytest.mark.parametrize("done", range(0, 8))
def test_a_restart_goes_on_where_it_stopped(config: LoaderConfig, done: int) -> None:
    epoch, step = divmod(done, 3)
    resumed = take(replace(config, num_workers=1), 4, start=Position(1 + epoch, step))
    assert_equal(resumed, naive(config, done + 4)[done:])


def test_epochs_and_seeds_give_new_batches(config: LoaderConfig) -> None:
    batches = take(config, 6) + take(replace(config, seed=4), 3)
    images = [image for batch in batches for image in batch.image]
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 18


def test_layouts_differ_in_strides_alone(config: LoaderConfig) -> None:
    plain, last = take(config, 2), []
    loader = build(replace(config, layout="NDHWC"), ONE, CPU)
    for batch in itertools.islice(loader, 2):
        assert batch.image.shape == (2, 1, *config.input_shape)
        assert batch.image.is_contiguous(memory_format=torch.channels_last_3d)
        assert batch.image.stride(1) == 1
        # What torch's dispatch looks at: a convolution of it comes out channels-last.
        assert (batch.image + 1).stride() == batch.image.stride()
        last.append(Batch(batch.image.clone(), batch.label.clone()))
    loader.close()
    assert_equal(last, plain)
    assert plain[0].image.is_contiguous()
    assert plain[0].image.stride(1) == np.prod(config.input_shape)
    assert (plain[0].image.dtype, plain[0].label.dtype) == (torch.float32, torch.uint8)


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 1), (1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_a_batch_stays_as_it_is_until_the_next_is_asked_for(
    config: LoaderConfig, workers: int, prefetch: int, pause: float
) -> None:
    loader = build(replace(config, num_workers=workers, prefetch=prefetch), ONE, CPU)
    for batch in itertools.islice(loader, 60):
        image, label = batch.image.clone(), batch.label.clone()
        time.sleep(pause)
        assert torch.equal(batch.image, image)
        assert torch.equal(batch.label, label)
    loader.close()


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 1), (1, 1), (2, 2), (3, 1)])
def test_no_slot_is_given_out_while_it_is_in_use(
    config: LoaderConfig, workers: int, prefetch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument for the number of slots: how far DataLoader pulls ahead of the batch it returns."""
    loader = build(replace(config, num_workers=workers, prefetch=prefetch), ONE, CPU)
    assert isinstance(loader, PytorchTrainLoader)
    issued = 0
    steps = loader._schedule.steps

    def counted(start: Position) -> Iterator[object]:
        nonlocal issued
        for step in steps(start):
            issued += 1
            yield step

    monkeypatch.setattr(type(loader._schedule), "steps", lambda _, start: counted(start))
    ahead = workers * prefetch
    slots_there = loader._ring.image.shape[0]
    for k, batch in enumerate(itertools.islice(loader, 20)):
        assert issued == k + 1 + ahead
        held = {(k + i) % slots_there for i in range(-1, ahead + 1)}
        # Batch k, those in the making, and k - 1, which may still be on its way to a device.
        assert len(held) == ahead + 2 <= slots_there
        assert batch.image.data_ptr() == loader._ring.image[k % slots_there].data_ptr()
    loader.close()


def test_closing_leaves_no_worker(config: LoaderConfig) -> None:
    loader = build(replace(config, num_workers=2), ONE, CPU)
    assert isinstance(loader, PytorchTrainLoader)
    stream = iter(loader)
    next(stream)
    pids = workers_of(loader)
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    loader.close()
    assert not any(alive(pid) for pid in pids)
    loader.close()
    with pytest.raises(RuntimeError, match="closed or iterated again"):
        next(stream)


def test_an_exception_in_the_consumer_leaves_no_worker(config: LoaderConfig) -> None:
    loader = build(replace(config, num_workers=2), ONE, CPU)
    assert isinstance(loader, PytorchTrainLoader)
    pids: list[int] = []

    def consume() -> None:
        for _ in loader:
            pids.extend(workers_of(loader))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    loader.close()
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_iterating_again_starts_again(config: LoaderConfig) -> None:
    loader = build(replace(config, num_workers=1), ONE, CPU)
    first = iter(loader)
    next(first)
    next(first)
    again = [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(loader, 2)]
    assert_equal(again, naive(config, 2))
    with pytest.raises(RuntimeError, match="closed or iterated again"):
        next(first)
    loader.close()


def test_dropping_an_iterator_stops_its_workers_alone(config: LoaderConfig) -> None:
    loader = build(replace(config, num_workers=1), ONE, CPU)
    first, second = iter(loader), None
    next(first)
    second = iter(loader)
    next(second)
    del first
    next(second)
    del second
    assert multiprocessing.active_children() == []


def test_the_global_generators_are_left_alone(config: LoaderConfig) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    take(config, 4)
    take(replace(config, num_workers=1), 4)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # type: ignore[index]


def test_bytes_are_counted_wherever_they_are_read(config: LoaderConfig) -> None:
    counts = []
    for workers in (0, 2):
        loader = build(replace(config, num_workers=workers, oversampling=0.0), ONE, CPU)
        assert isinstance(loader, PytorchTrainLoader)
        for _ in itertools.islice(loader, 6):
            pass
        counts.append(loader.bytes_read)
        loader.close()
    assert counts[0] == counts[1]
    # Each of 12 samples: 16 bands of an image and of a label, on one to three pages of 4 KiB each.
    assert 12 * 32 * 4096 <= counts[0] <= 12 * 32 * 3 * 4096


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_device_batches_are_right_while_the_device_lags_behind(config: LoaderConfig, workers: int) -> None:
    device = torch.device("cuda", 0)
    loader = build(replace(config, num_workers=workers, layout="NDHWC"), ONE, device)
    kept = []
    for batch in itertools.islice(loader, 30):
        assert batch.image.is_contiguous(memory_format=torch.channels_last_3d)
        torch.cuda._sleep(20_000_000)
        kept.append(Batch(batch.image.clone(), batch.label.clone()))
    loader.close()
    assert_equal([Batch(b.image.cpu(), b.label.cpu()) for b in kept], naive(config, 30))
