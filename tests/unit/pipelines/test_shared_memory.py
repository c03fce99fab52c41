import gc
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from pipelines.base import ALONE, Shard
from pipelines.cases import find_cases
from pipelines.data_loader import LoaderConfig
from pipelines.draw import CropWindow
from pipelines.errors import DataError
from pipelines.host_volumes import HostVolumes
from pipelines.shared_memory import SharedBlock, one_for_all
from pipelines.volumes import FileVolumes
from tests.unit.pipelines.loaders import CPU, assert_equal, naive

T = TypeVar("T")
FORK = multiprocessing.get_context("fork")


def write(block: SharedBlock, index: int, value: int) -> None:
    block.array(0, (8,), np.int64)[index] = value


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_see_what_each_of_them_writes(method: str) -> None:
    block = SharedBlock(64, 1)
    numbers = block.array(0, (8,), np.int64)
    assert not numbers.any()
    process = multiprocessing.get_context(method).Process(target=write, args=(block, 3, 7))
    process.start()
    process.join()
    assert numbers.tolist() == [0, 0, 0, 7, 0, 0, 0, 0]


def test_nothing_has_a_name_and_everything_goes_with_the_last_holder() -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:voxelrate")

    gc.collect()
    before, named, maps = len(os.listdir("/proc/self/fd")), os.listdir("/dev/shm"), mapped()
    block = SharedBlock(1 << 20, 1)
    numbers = block.array(0, (1 << 17,), np.int64)
    other = SharedBlock(*block.key)
    assert os.listdir("/dev/shm") == named
    del block
    other.array(0, (1,), np.int64)[0] = 5
    assert numbers[0] == 5
    del other, numbers
    assert len(os.listdir("/proc/self/fd")) == before
    assert mapped() == maps


def count(block: SharedBlock, times: int) -> None:
    number = block.array(0, (1,), np.int64)
    for _ in range(times):
        with block.locked(0):
            value = int(number[0])
            time.sleep(0)
            number[0] = value + 1


def test_a_lock_holds_against_threads_and_processes() -> None:
    block = SharedBlock(8, 1)
    others = [FORK.Process(target=count, args=(block, 300)) for _ in range(2)]
    threads = [threading.Thread(target=count, args=(block, 300)) for _ in range(2)]
    for one in (*others, *threads):
        one.start()
    for one in (*others, *threads):
        one.join()
    assert block.array(0, (1,), np.int64)[0] == 1200


def cross(block: SharedBlock, first: int, second: int, met: Any) -> None:
    """Hold one lock while another thread of this process waits for the other."""

    def take() -> None:
        with block.locked(second):
            pass

    with block.locked(first):
        met.wait()
        waiting = threading.Thread(target=take)
        waiting.start()
        time.sleep(0.2)
    waiting.join(30)
    sys.exit(int(waiting.is_alive()))


def test_processes_that_wait_for_each_other_in_different_threads_are_no_deadlock() -> None:
    block, met = SharedBlock(8, 2), FORK.Barrier(2)
    processes = [FORK.Process(target=cross, args=(block, a, b, met)) for a, b in ((0, 1), (1, 0))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


class Second:
    """The second rank of a machine, told by the first what that has made."""

    def __init__(self, made: list[Any]) -> None:
        self._made = iter(made)

    def agree(self, make: Callable[[], T]) -> T:
        return next(self._made)


class First:
    """The first rank, which writes down what it makes."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def agree(self, make: Callable[[], T]) -> T:
        self.made.append(make())
        return self.made[-1]


def test_ranks_get_one_block() -> None:
    first = First()
    block = one_for_all(64, 2, first)
    other = one_for_all(64, 2, Second(first.made))
    write(block, 1, 9)
    assert other.array(0, (8,), np.int64)[1] == 9
    with pytest.raises(DataError, match="cannot share memory with the first rank of this machine .* No such"):
        one_for_all(64, 2, Second([(64, 2, "/proc/self/fd/9999"), None]))
    with pytest.raises(StopIteration):  # a rank that cannot reach it says so to the first all the same
        one_for_all(64, 2, Second([(64, 2, "/proc/self/fd/9999")]))


def test_each_volume_is_read_once_for_all_ranks(config: LoaderConfig) -> None:
    first = First()
    cases = find_cases(config.data_dir)
    one = HostVolumes(FileVolumes(cases), "stored", first)
    two = HostVolumes(FileVolumes(cases), "stored", Second(first.made))
    window = CropWindow((1, 2, 3), (8, 8, 8))
    for case, found in enumerate(cases):
        patches = [volumes.patch(case, window) for volumes in (one, two)]
        assert patches[0].bytes_read > 0
        assert patches[1].bytes_read == two.label(case)[1] == 0
        for patch in patches:
            np.testing.assert_array_equal(patch.image, np.load(found.image)[0, 1:9, 2:10, 3:11])
            np.testing.assert_array_equal(patch.label, np.load(found.label)[0, 1:9, 2:10, 3:11])


def read_all(volumes: HostVolumes, cases: int, bytes_read: Any) -> None:
    bytes_read.put(sum(volumes.label(case)[1] for case in range(cases)))


def test_processes_that_touch_a_volume_at_once_read_it_one_time(config: LoaderConfig) -> None:
    cases = find_cases(config.data_dir)
    files = FileVolumes(cases)
    expected = sum(files.image(case)[1] + files.label(case)[1] for case in range(len(cases)))
    volumes = HostVolumes(files, "stored", ALONE)
    results = FORK.Queue()
    processes = [FORK.Process(target=read_all, args=(volumes, len(cases), results)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sum(results.get(timeout=60) for _ in processes) == expected
    for process in processes:
        process.join()


def test_pytorch_workers_fill_the_cache_together(config: LoaderConfig) -> None:
    from pipelines.data_loader import build

    loader = build(replace(config, data_cache="host", num_workers=2), Shard(), CPU)
    truth = naive(config, 12)
    for batch, expected in zip(loader, truth, strict=False):
        assert_equal([batch], [expected])
    loader.close()
