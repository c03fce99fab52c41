"""What the PyTorch loader makes of workers that die or stall, of faulty data and of too little memory."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import slots
from pipelines.data_loader import LoaderConfig, build
from pipelines.errors import DataError
from pipelines.pytorch_loader import PytorchTrainLoader
from tests.unit.pipelines.dataset import write_case
from tests.unit.pipelines.loaders import CPU, ONE, alive, workers_of


@pytest.fixture(autouse=True)
def _no_orphans() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


PARENT = """
import sys, time, torch
from pathlib import Path
from pipelines.base import Shard
from pipelines.data_loader import LoaderConfig, build
folder = Path(sys.argv[1])
config = LoaderConfig(data_dir=folder, evaluation_cases=folder / "evaluation_cases.txt",
                      input_shape=(16, 12, 8), num_workers=2)
loader = build(config, Shard(), torch.device("cpu"))
next(stream := iter(loader))
print(*(worker.pid for worker in loader._workers._workers), flush=True)
time.sleep(60)
"""


def test_workers_die_with_a_killed_parent(config: LoaderConfig) -> None:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", PARENT, str(config.data_dir)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.kill()
        parent.wait()
    # At once, by the kernel: torch's own watchdog in the worker would take up to five seconds.
    deadline = time.monotonic() + 2
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


def test_workers_leave_ctrl_c_to_the_parent(config: LoaderConfig) -> None:
    loader = build(replace(config, num_workers=2), ONE, CPU)
    assert isinstance(loader, PytorchTrainLoader)
    loader._workers = loader._start_workers()
    pids = workers_of(loader)
    # Before they have run a line, and while they work.
    for _ in range(3):
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        for _ in range(6):
            next(loader._workers)
    assert all(alive(pid) for pid in pids)
    loader.close()


def test_a_killed_worker_is_an_error(config: LoaderConfig) -> None:
    loader = build(replace(config, num_workers=1), ONE, CPU)
    assert isinstance(loader, PytorchTrainLoader)
    stream = iter(loader)
    next(stream)
    os.kill(workers_of(loader)[0], signal.SIGKILL)
    time.sleep(0.3)  # in which nothing is raised here
    with pytest.raises(
        DataError, match=r"from outside \(SIGKILL\) at case_\d+, case_\d+: most often"
    ) as caught:
        list(itertools.islice(stream, 50))
    assert "\n" not in str(caught.value)
    loader.close()


@pytest.mark.slow
def test_a_stopped_worker_is_an_error_in_bounded_time(config: LoaderConfig) -> None:
    loader = build(replace(config, num_workers=1, timeout=2), ONE, CPU)
    assert isinstance(loader, PytorchTrainLoader)
    stream = iter(loader)
    next(stream)
    (pid,) = workers_of(loader)
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(DataError, match=r"no worker has delivered case_\d+, case_\d+ for 2 s"):
        list(itertools.islice(stream, 50))
    assert time.monotonic() - begin < 12
    assert not alive(pid)


@pytest.fixture
def broken(config: LoaderConfig, tmp_path: Path) -> LoaderConfig:
    """A data set in which a fault comes to light only when the voxels are read."""
    for number in range(2, 4):
        write_case(tmp_path, number, (20, 20, 20))
    path = tmp_path / "case_00002_y.npy"
    label = np.load(path)
    label[...] = 3
    np.save(path, label)
    return replace(config, data_dir=tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("oversampling", [0.0, 1.0])
def test_a_fault_in_the_data_arrives_as_one_sentence(
    broken: LoaderConfig, workers: int, oversampling: float
) -> None:
    loader = build(replace(broken, num_workers=workers, oversampling=oversampling), ONE, CPU)
    with pytest.raises(DataError) as caught:
        next(iter(loader))
    message = str(caught.value)
    assert message.startswith(f"{broken.data_dir / 'case_00002_y.npy'}: a label of class 3, expected 0 to 2")
    assert "\n" not in message
    assert multiprocessing.active_children() == []


def test_a_fault_in_a_header_is_found_at_the_start(config: LoaderConfig, tmp_path: Path) -> None:
    write_case(tmp_path, 2, (20, 20, 20))
    config = replace(config, data_dir=tmp_path, last_batch="pad")
    with pytest.raises(DataError, match=r"case_00002: a patch of \(16, 21, 8\) voxels does not fit"):
        build(replace(config, input_shape=(16, 21, 8)), ONE, CPU)
    np.save(tmp_path / "case_00002_y.npy", np.zeros((1, 20, 20, 19), np.uint8))
    with pytest.raises(DataError, match=r"x.npy has shape \(20, 20, 20\), but .*y.npy has \(20, 20, 19\)"):
        build(config, ONE, CPU)
    os.truncate(tmp_path / "case_00002_x.npy", 1000)
    with pytest.raises(DataError, match="case_00002_x.npy has 1000 bytes, expected 32128"):
        build(config, ONE, CPU)


def test_too_little_shared_memory_is_told_at_the_start(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "shared_memory_free", lambda: 90_000)
    needed = (2 * 2 + 2) * 2 * 16 * 12 * 8 * 5
    with pytest.raises(DataError, match=rf"6 batch slots need {needed} bytes .* /dev/shm has 90000 free"):
        build(replace(config, num_workers=2), ONE, CPU)
    build(replace(config, num_workers=0), ONE, CPU).close()
