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


@pytest.fixture
def _untraced() -> Iterator[None]:
    """Without the tracing of memory that the target leaves on."""
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("_untraced")
@pytest.mark.parametrize("path", files("npy"), ids=lambda path: f"{path.parent.parent.name}-{path.name}")
def test_a_volume_is_read_or_refused(path: Path) -> None:
    targets.npy(path.read_bytes())


@pytest.mark.parametrize("path", files("mllog"), ids=lambda path: f"{path.parent.parent.name}-{path.name}")
@pytest.mark.parametrize("pad", range(2), ids=["plain", "terminal"])
def test_a_log_is_read_or_refused(path: Path, pad: int, tmp_path: Path) -> None:
    data = path.read_bytes()
    # Lengths that are multiples of eight are shown as on a terminal; blanks at the end mean nothing.
    data += b" " * (-len(data) % 8 + 1 - pad)
    targets.mllog(data, tmp_path)


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
