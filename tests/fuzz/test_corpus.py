"""The fuzzer's seeds, and every file that once broke a reader, without the fuzzer."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.mllog.log import read_log
from tests.fuzz import targets

HERE = Path(__file__).parent


def files(kind: str) -> list[Path]:
    return sorted(path for folder in ("corpus", "crashers") for path in (HERE / folder / kind).iterdir())


def named(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.name}"


@pytest.fixture
def _untraced() -> Iterator[None]:
    """Without the tracing of memory that the target leaves on."""
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_untraced")
@pytest.mark.parametrize("path", files("npy"), ids=named)
def test_a_volume_is_read_or_refused(path: Path) -> None:
    targets.npy(path.read_bytes())


@pytest.mark.parametrize("path", files("mllog"), ids=named)
def test_a_log_is_read_or_refused(path: Path, tmp_path: Path) -> None:
    targets.mllog(path.read_bytes(), tmp_path)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("path", [path for path in files("mllog") if "found_" not in path.name], ids=named)
def test_a_log_is_shown_on_a_terminal_and_in_a_file(path: Path, terminal: bool, tmp_path: Path) -> None:
    data = path.read_bytes()
    # What is a multiple of eight bytes long is shown as on a terminal; blanks at the end mean nothing.
    targets.mllog(data + b" " * (-len(data) % 8 + (not terminal)), tmp_path)


def test_the_seeds_reach_what_they_are_for(tmp_path: Path) -> None:
    readable = []
    for path in files("mllog"):
        log = tmp_path / path.name
        log.write_bytes(path.read_bytes().split(targets.SEPARATOR)[0])
        try:
            readable.append(read_log(log).path.name)
        except ValueError:
            continue
    assert {"ours", "ours_whole_result", "nvidia_like", "diverged"} <= set(readable)


def test_the_targets_notice_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def faulty(*_: object) -> object:
        raise KeyError("shape")

    monkeypatch.setattr(targets, "MappedVolume", faulty)
    monkeypatch.setattr(targets, "read_result", faulty)
    with pytest.raises(KeyError):
        targets.npy(b"")
    with pytest.raises(KeyError):
        targets.mllog(b":::MLLOG", tmp_path)
    tracemalloc.stop()
