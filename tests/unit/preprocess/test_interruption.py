"""Runs that end early: by kill -9, by Ctrl-C, by the loss of a worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from preprocess.manifest import Manifest

ROOT = Path(__file__).resolve().parents[3]
CASES = 4


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases that take a worker some tenths of a second each: 100 x 220 x 220 voxels, 48 MB of output."""
    folder = tmp_path_factory.mktemp("raw")
    slab = np.random.default_rng(0).integers(-200, 400, (100, 220, 10), np.int16)
    image = nibabel.Nifti1Image(np.tile(slab, 22), np.eye(4), dtype=np.int16)
    image.header["pixdim"][1:4] = (3.2, 1.2, 1.2)
    label = nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), np.eye(4))
    for case_id in range(CASES):
        case = folder / f"case_{case_id:05d}"
        case.mkdir()
        nibabel.openers.Opener.default_compresslevel = 1
        nibabel.save(image, case / "imaging.nii.gz")
        nibabel.save(label, case / "segmentation.nii.gz")
    return folder


@pytest.fixture
def start(raw: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a run in a process group of its own, as a shell does; what is left of it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*flags: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "preprocess_dataset.py",
            "--data_dir",
            raw,
            "--results_dir",
            tmp_path / "out",
        ]
        pipe = subprocess.PIPE
        run = subprocess.Popen(
            [*command, "--workers", "2", *flags],
            cwd=ROOT,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )
        started.append(run)
        return run

    yield begin
    for run in started:
        if group_lives(run.pid):
            os.killpg(run.pid, signal.SIGKILL)


def group_lives(group: int) -> bool:
    """Whether a process of the group still runs; one that only waits to be reaped does not count."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def writing(out: Path) -> Callable[[], bool]:
    """An image is half-written now."""
    return lambda: any(path.stat().st_size > 1_000_000 for path in out.glob("*_x.npy.*.part"))


def complete_files(out: Path, raw: Path) -> list[str]:
    """The finished files; asserts that every one of them is whole."""
    names = sorted(path.name for path in out.glob("*.npy"))
    for name in names:
        assert np.load(out / name, mmap_mode="r").shape == (1, 200, 220, 220)
    return names


ALL = sorted(f"case_{n:05d}_{kind}.npy" for n in range(CASES) for kind in "xy")


def test_kill_9_leaves_no_half_file_and_a_second_run_completes(raw: Path, tmp_path: Path, start) -> None:
    out = tmp_path / "out"
    run = start()
    wait_for(writing(out))
    run.kill()  # the program alone: its workers must notice by themselves
    run.wait()
    wait_for(lambda: not group_lives(run.pid), seconds=10)
    assert len(complete_files(out, raw)) < len(ALL)
    assert list(out.glob("*.part"))  # it did die in the middle of a file
    again = start()
    printed, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert complete_files(out, raw) == ALL
    assert sorted(path.name for path in out.iterdir()) == [*ALL, "manifest.json"]
    assert len({(out / name).read_bytes() for name in ALL}) == 2  # all cases are equal: one image, one label


def test_a_killed_float16_run_goes_on_where_it_was(raw: Path, tmp_path: Path, start) -> None:
    out, flags = tmp_path / "out", ("--storage_dtype", "float16")
    run = start(*flags)
    wait_for(lambda: (out / "manifest.json").is_file() and writing(out)())
    run.kill()
    run.wait()
    wait_for(lambda: not group_lives(run.pid), seconds=10)
    finished = {name: (out / f"{name}_x.npy").stat().st_mtime_ns for name in Manifest.load(out).cases}
    assert 0 < len(finished) < CASES
    again = start(*flags)
    printed, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert f"{len(finished)} cases were complete and correct already" in printed
    assert {name: (out / f"{name}_x.npy").stat().st_mtime_ns for name in finished} == finished
    assert complete_files(out, raw) == ALL
    assert {np.load(path, mmap_mode="r").dtype.name for path in out.glob("*_x.npy")} == {"float16"}
    assert len({(out / name).read_bytes() for name in ALL}) == 2


def test_ctrl_c_stops_with_one_line_and_130(raw: Path, tmp_path: Path, start) -> None:
    out = tmp_path / "out"
    run = start()
    wait_for(writing(out))
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = run.communicate(timeout=10)
    assert run.returncode == 130
    assert errors.splitlines()[-1] == "interrupted: finished cases are kept, run again to go on"
    assert "Traceback" not in errors
    assert not list(out.glob("*.part"))
    complete_files(out, raw)
    wait_for(lambda: not group_lives(run.pid), seconds=10)


def test_ctrl_c_before_any_case_has_begun_is_as_clean(tmp_path: Path, start) -> None:
    run = start()
    wait_for((tmp_path / "out").is_dir)  # made just before the workers are
    time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert errors.splitlines()[-1] == "interrupted: finished cases are kept, run again to go on"
    assert "Traceback" not in errors
    assert not list((tmp_path / "out").iterdir())
    wait_for(lambda: not group_lives(run.pid), seconds=10)


def test_a_killed_worker_is_reported_not_waited_for(raw: Path, tmp_path: Path, start) -> None:
    out = tmp_path / "out"
    run = start()
    wait_for(writing(out))
    half_written = next(out.glob("*_x.npy.*.part"))
    os.kill(int(half_written.name.split(".")[-2]), signal.SIGKILL)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 1
    assert "a worker was killed from outside" in errors
    assert "run again with --workers 1" in errors
    assert half_written.name.split("_x.npy")[0] in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not list(out.glob("*.part"))
