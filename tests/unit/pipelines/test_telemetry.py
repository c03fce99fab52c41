import multiprocessing
import os
import threading
import time
from dataclasses import replace
from itertools import islice

import pytest
import torch

from pipelines import telemetry
from pipelines.base import Shard
from pipelines.config import LoaderConfig
from pipelines.data_loader import build
from pipelines.telemetry import BatchTimes, SampleTimes, SampleWatch

CPU = torch.device("cpu")
kernel_tells = pytest.mark.skipif(
    not telemetry.WAITS_FOR_CPU_KNOWN, reason="this kernel has no /proc/thread-self/schedstat"
)


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def made(before: float, reading: float, after: float, *, work: bool) -> SampleTimes:
    spend = spin if work else time.sleep
    watch = SampleWatch()
    spend(before)
    watch.reading()
    time.sleep(reading)
    watch.read()
    spend(after)
    return watch.done()


def test_reading_counts_as_fetch_and_work_as_prep() -> None:
    times = made(0.01, 0.02, 0.03, work=True)
    assert times.fetch_s == pytest.approx(0.02, abs=0.004)
    assert times.prep_s == pytest.approx(0.04, abs=0.02)  # a busy machine makes it wait for a CPU
    assert times.begin < times.read_begin < times.read_end < times.end
    assert times.worker == threading.get_native_id()


def test_a_wait_in_the_middle_of_work_is_a_wait_for_data() -> None:
    """As a page of a mapped file that is not there yet."""
    times = made(0.01, 0.0, 0.02, work=False)
    assert times.fetch_s == pytest.approx(0.03, abs=0.006)
    assert times.prep_s < 0.006


@kernel_tells
def test_waiting_for_a_cpu_is_not_waiting_for_data() -> None:
    cpu = min(os.sched_getaffinity(0))
    rivals = [multiprocessing.get_context("fork").Process(target=_occupy, args=(cpu, 1.5)) for _ in range(2)]
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        for rival in rivals:
            rival.start()
        time.sleep(0.1)
        times = made(0.0, 0.0, 0.1, work=True)
    finally:
        os.sched_setaffinity(0, own)
        for rival in rivals:
            rival.kill()
            rival.join()
    assert times.end - times.begin > 0.15, "nobody else wanted the CPU: the test tells nothing"
    assert times.fetch_s < 0.02


def _occupy(cpu: int, seconds: float) -> None:
    os.sched_setaffinity(0, {cpu})
    spin(seconds)


@kernel_tells
def test_each_thread_and_each_fork_has_its_own_numbers() -> None:
    found: list[SampleTimes] = [made(0.0, 0.0, 0.02, work=True)]
    thread = threading.Thread(target=lambda: found.append(made(0.0, 0.0, 0.02, work=True)))
    thread.start()
    thread.join()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(made(0.0, 0.0, 0.02, work=True)))
    child.start()
    found.append(ours.recv())
    child.join()
    assert len({times.worker for times in found}) == 3
    assert all(times.fetch_s < 0.01 for times in found)


@pytest.mark.parametrize(
    "change",
    [
        {"num_workers": 0},
        {"num_workers": 2},
        {"num_workers": 2, "data_cache": "host"},
        {"loader": "dali", "num_workers": 2},
        {"loader": "dali", "num_workers": 1, "data_cache": "device"},
    ],
)
def test_a_loader_tells_of_every_batch_before_it_hands_it_out(
    config: LoaderConfig, change: dict[str, object]
) -> None:
    if change.get("loader") == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    loader = build(replace(config, **change), Shard(), CPU)  # type: ignore[arg-type]
    told: list[BatchTimes] = []
    loader.observer = told.append
    begin = time.perf_counter()
    try:
        for count, _ in enumerate(islice(iter(loader), 5), start=1):
            assert len(told) == count
    finally:
        loader.close()
    now = time.perf_counter()
    for times in told:
        assert begin < times.ready_at < now, "all processes share a clock"
        assert times.fetch_s >= 0
        assert times.prep_s > 0
        assert times.fetch_s + times.prep_s <= sum(s.end - s.begin for s in times.samples) + 1e-9
        assert (times.host_wait_s is not None) == (change.get("loader") == "dali")
    if change.get("loader") != "dali":
        assert {len(times.samples) for times in told} == {config.batch_size}


def test_nothing_is_told_of_files_that_the_graph_reads(config: LoaderConfig) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    loader = build(replace(config, loader="dali", num_workers=1, reader="file"), Shard(), CPU)
    told: list[BatchTimes] = []
    loader.observer = told.append
    try:
        next(iter(loader))
    finally:
        loader.close()
    assert told == []
    assert loader.bytes_read > 0


def test_resident_batches_have_nothing_to_tell() -> None:
    loader = build(LoaderConfig(loader="synthetic", input_shape=(8, 8, 8)), Shard(), CPU)
    told: list[BatchTimes] = []
    loader.observer = told.append
    next(iter(loader))
    assert told == []
