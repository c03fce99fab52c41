"""What a loader needs of its machine is told before it takes it."""

import gc
import itertools
import os
import resource
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import room, slots
from pipelines.base import ALONE, Shard
from pipelines.config import LoaderConfig
from pipelines.data_loader import build
from pipelines.errors import DataError
from pipelines.pytorch_loader import PytorchTrainLoader
from pipelines.room import Needs, check_room
from preprocess import machine
from preprocess.machine import open_files
from tests.unit.pipelines.loaders import CPU, ONE, workers_of

ROOT = Path(__file__).resolve().parents[3]
PATCH_BYTES = 16 * 12 * 8 * 5
MIB = 1 << 20

WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "in this process": ({"num_workers": 0}, "2 batch slots"),
    "workers": ({"num_workers": 3}, f"8 batch slots, {3 * 64 * MIB} for 3 workers"),
    "host cache": ({"num_workers": 0, "data_cache": "host"}, "2 batch slots, 1[0-9]+ for --data_cache"),
    "dali": ({"loader": "dali", "num_workers": 1}, f"6 batch slots, {6 * 2 * PATCH_BYTES} for DALI"),
    "dali, device cache": (
        {"loader": "dali", "num_workers": 1, "data_cache": "device"},
        f"{6 * 2 * PATCH_BYTES} for DALI, 1[0-9]+ for --data_cache",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_too_little_memory_is_told_with_what_needs_it(
    config: LoaderConfig, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, parts = WAYS[way]
    if changes.get("loader") == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    monkeypatch.setattr(room, "available_memory", lambda: 20_000)
    with pytest.raises(
        DataError, match=rf"need \d+ bytes of host memory \(.*{parts}\), but 20000 are free: lower --num_"
    ) as caught:
        build(replace(config, **changes), ONE, CPU)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("--data_cache none") == ("data_cache" in changes)
    needed = int(message.split("need ")[1].split(" ")[0])
    monkeypatch.setattr(room, "available_memory", lambda: needed)
    build(replace(config, **changes), ONE, CPU).close()


class Machine:
    """Two ranks, in threads, that share what the first has made."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=30)
        self.made: tuple[Any, DataError | None] = (None, None)

    def rank(self, number: int) -> "Rank":
        return Rank(self, number)


class Rank:
    def __init__(self, machine: Machine, number: int) -> None:
        self._machine, self._number = machine, number

    def agree(self, make: Any) -> Any:
        if self._number == 0:
            try:
                self._machine.made = (make(), None)
            except DataError as error:
                self._machine.made = (None, error)
        self._machine.barrier.wait()
        value, error = self._machine.made
        self._machine.barrier.wait()
        if error:
            raise DataError(str(error))
        return value


def on_two_ranks(needs: Needs, host_cache: int) -> list[str]:
    ranks_of, said = Machine(), ["", ""]

    def check(number: int) -> None:
        try:
            check_room(needs, host_cache, ranks_of.rank(number))
        except DataError as error:
            said[number] = str(error)

    ranks = [threading.Thread(target=check, args=(number,)) for number in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return said


def test_the_ranks_of_a_machine_need_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Needs(slots=6, ring=1000, shared_slots=6, shared_ring=1000, workers=64 * MIB)
    total = 2 * (1000 + 64 * MIB) + 500
    monkeypatch.setattr(room, "available_memory", lambda: total)
    assert on_two_ranks(needs, 500) == ["", ""]
    monkeypatch.setattr(room, "available_memory", lambda: total - 1)
    said = on_two_ranks(needs, 500)
    assert said[0] == said[1]
    assert f"{total} bytes" in said[0]
    assert f"2000 for 12 batch slots, {128 * MIB} for 2 workers, 500 for --data_cache" in said[0]
    monkeypatch.setattr(slots, "shared_memory_free", lambda: 1999)
    said = on_two_ranks(needs, 500)
    assert said[0] == said[1]
    assert "12 batch slots need 2000 bytes of shared memory, but /dev/shm has 1999 free" in said[0]
    check_room(replace(needs, slots=0, ring=0, shared_slots=0, shared_ring=0), 0, ALONE)


LIMITED = """
import os, resource, sys, torch
from pathlib import Path
from pipelines.base import Shard
from pipelines.data_loader import LoaderConfig, build
from pipelines.errors import DataError
folder, soft, hard = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
config = LoaderConfig(data_dir=folder, evaluation_cases=folder / "evaluation_cases.txt",
                      input_shape=(16, 12, 8), num_workers=2)
try:
    loader = build(config, Shard(), torch.device("cpu"))
    next(iter(loader))
    loader.close()
    print("limit", *resource.getrlimit(resource.RLIMIT_NOFILE))
except DataError as error:
    print(error)
"""


def limited(folder: Path, soft: int, hard: int) -> str:
    command = [sys.executable, "-c", LIMITED, str(folder), str(soft), str(hard)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_low_limit_on_open_files_is_raised_or_told(config: LoaderConfig) -> None:
    told = limited(config.data_dir, 60, 60)
    assert told.startswith("a process of this run needs ")
    needed = int(told.split()[6])
    assert 60 < needed < 110
    assert "open, 15 for the loader, 64 for all else), but its limit is 60: raise it" in told
    assert told.endswith(f"(ulimit -Hn {needed}), or lower --num_workers")
    assert limited(config.data_dir, 60, needed) == f"limit {needed} {needed}"


@pytest.mark.parametrize(
    ("limits", "needed", "allowed", "raised"),
    [
        ((60, 4000), 60, 60, []),
        ((60, 4000), 61, 4000, [(4000, 4000)]),
        ((60, 4000), 4001, 4000, []),
        ((60, resource.RLIM_INFINITY), 10**9, sys.maxsize, [(resource.RLIM_INFINITY,) * 2]),
        ((resource.RLIM_INFINITY,) * 2, 10**9, sys.maxsize, []),
    ],
)
def test_a_soft_limit_is_raised_only_where_that_helps(
    limits: tuple[int, int], needed: int, allowed: int, raised: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(machine.resource, "setrlimit", lambda _, wanted: asked.append(wanted))
    assert machine.allow_open_files(needed) == allowed
    assert asked == raised


@pytest.mark.parametrize(
    "changes",
    [
        {"num_workers": 0},
        {"num_workers": 3, "data_cache": "host"},
        {"loader": "dali", "num_workers": 3},
        {"loader": "dali", "num_workers": 2, "data_cache": "device"},
        {"loader": "dali", "num_workers": 2, "reader": "file", "batch_size": 3},
    ],
)
def test_no_process_opens_more_files_than_were_announced(
    config: LoaderConfig, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if changes.get("loader") == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    announced: list[tuple[int, int]] = []
    check = room.check_room

    def noted(needs: Needs, *others: Any) -> None:
        announced.append((open_files(), needs.files))
        check(needs, *others)

    for module in ("data_loader", "dali_builder"):
        monkeypatch.setattr(f"pipelines.{module}.check_room", noted)
    gc.collect()  # what earlier tests left open
    loader = build(replace(config, **changes), ONE, CPU)
    ((before, needed),) = announced
    most = 0
    for _ in itertools.islice(loader, 12):
        processes = ["self"]
        if isinstance(loader, PytorchTrainLoader) and changes["num_workers"]:
            processes += [str(pid) for pid in workers_of(loader)]
        most = max(most, *(len(os.listdir(f"/proc/{process}/fd")) for process in processes))
    loader.close()
    # One of what was seen is the folder itself.
    assert most - 1 - before <= needed
    assert needed <= 5 * changes["num_workers"] + 8, "nor are far too many asked for"


def test_shared_memory_is_looked_at_before_any_is_taken(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = os.listdir("/dev/shm")
    needed = (2 * 2 + 2) * 2 * PATCH_BYTES
    monkeypatch.setattr(slots, "shared_memory_free", lambda: needed - 1)
    with pytest.raises(
        DataError, match=rf"6 batch slots need {needed} bytes .* has {needed - 1} free: enlarge"
    ):
        build(replace(config, num_workers=2), Shard(), CPU)
    assert os.listdir("/dev/shm") == named
    monkeypatch.setattr(slots, "shared_memory_free", lambda: needed)
    build(replace(config, num_workers=2), Shard(), CPU).close()
