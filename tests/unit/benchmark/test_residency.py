"""What the page cache holds, and what it is told to forget."""

import mmap
import os
from pathlib import Path

import pytest

from benchmark.residency import ResidencyError, drop, resident_bytes, warm

PAGE = mmap.PAGESIZE


@pytest.fixture
def file(on_disk: Path) -> Path:
    path = on_disk / "data"
    path.write_bytes(os.urandom(1000 * PAGE + 100))
    return path


def test_what_was_dropped_is_gone_and_what_was_read_is_counted(file: Path) -> None:
    drop([file])
    assert resident_bytes([file]) == 0
    descriptor = os.open(file, os.O_RDONLY)
    # No read-ahead: the one page alone.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(descriptor, 10, 500 * PAGE)
    assert resident_bytes([file]) == PAGE
    os.pread(descriptor, 10, 1000 * PAGE)
    assert resident_bytes([file]) == PAGE + 100
    os.close(descriptor)


def test_warming_reads_all(file: Path) -> None:
    drop([file])
    assert warm([file]) == 1.0
    assert resident_bytes([file, file]) == 2 * (1000 * PAGE + 100)


def test_an_empty_file_has_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert resident_bytes([tmp_path / "empty"]) == 0


def test_a_file_that_somebody_has_mapped_is_named(file: Path) -> None:
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::PAGE]) > 0
        with pytest.raises(ResidencyError, match=r"data stays in the page cache: .* has it mapped"):
            drop([file])


def test_a_file_of_somebody_else_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ResidencyError, match="run as its owner"):
        resident_bytes([file])
