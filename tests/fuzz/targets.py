"""What hostile files must not do: one function for each kind of file, called by the fuzzer and by the tests.

Each takes a file's bytes and returns, whatever they are; anything it raises is a fault of the reader.
"""

import io
import json
import os
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np

from benchmark.mllog.folders import logs_by_folder
from benchmark.mllog.result import as_record, read_result
from benchmark.mllog.show import show
from benchmark.record import Record, to_json
from pipelines.draw import CropWindow
from pipelines.errors import DataError
from pipelines.volume_reader import MappedVolume
from preprocess.untrusted import printable

SEPARATOR = b"\x1e"
"""Between the files of one input of `mllog`; no JSON and no text has it."""
MLLOG_PARTS = (
    "results/system/unet3d/result_0.txt",
    "results/system/unet3d/result_1.txt",
    "systems/system.json",
    "results/system/unet3d/scaling.json",
)
"""Where they go, in the layout of a submission."""

_MARGIN = 1 << 20
"""Bytes that a reader may allocate beyond the size of its file."""
_LARGEST = 1 << 20
"""Bytes up to which a volume that is only too short is filled up, so that what lies behind is reached."""


def npy(data: bytes) -> None:
    """Open ``data`` as an image and as a label; read windows of what is one."""
    for dtypes in ((np.float32, np.float16), (np.uint8,)):
        try:
            _volume(data, dtypes)
        except DataError as error:
            words = str(error).split()
            short = words[words.index("expected") + 1] if "bytes," in words else ""
            if short.isdecimal() and len(data) < int(short) <= _LARGEST:
                _volume(data.ljust(int(short), b"\x3c"), dtypes)


def _volume(data: bytes, dtypes: tuple[type[np.generic], ...]) -> None:
    with _as_file(data) as path, _modest(len(data)):
        volume = MappedVolume(path, *dtypes)
        voxels, _ = volume.whole()
        assert voxels.shape == volume.shape
        assert min(volume.shape) >= 1
        assert volume.dtype in dtypes
        offset = len(data) - voxels.nbytes
        assert offset > 0
        assert voxels.ctypes.data % volume.dtype.itemsize == 0
        assert voxels.tobytes() == data[offset:]
        size = tuple(1 + data[axis] % n for axis, n in enumerate(volume.shape))
        start = tuple(n - s for n, s in zip(volume.shape, size, strict=True))
        window, _ = volume.window(CropWindow(start, size))  # type: ignore[arg-type]
        place = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        assert window.tobytes() == voxels[place].tobytes()
        try:
            volume.window(CropWindow((start[0] + 1, *start[1:]), size))  # type: ignore[arg-type]
        except DataError:
            return
        raise AssertionError("a window beyond the volume was handed out")


@contextmanager
def _as_file(data: bytes) -> Iterator[Path]:
    """A file without a name, which goes with this process however it ends."""
    descriptor = os.memfd_create("fuzzed")
    try:
        os.write(descriptor, data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


@contextmanager
def _modest(size: int) -> Iterator[None]:
    """Fail where more is allocated than a file of ``size`` bytes can need, or where anything warns.

    Tracing goes on afterwards: each stop leaks 2 KiB, which a fuzzer would take for the reader's.
    """
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        allocated = tracemalloc.get_traced_memory()[1] - before
        assert allocated <= 4 * size + _MARGIN, f"{allocated} bytes allocated for a file of {size}"


def mllog(data: bytes, folder: Path) -> None:
    """Read ``data``, logs and what lies beside them, written into ``folder``; show and record the result."""
    parts = data.split(SEPARATOR)
    for name, part in zip(MLLOG_PARTS, parts, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(part)
    for name in MLLOG_PARTS[len(parts) :]:
        (folder / name).unlink(missing_ok=True)
    by_folder, problems = logs_by_folder([folder])
    for logs, files in by_folder.items():
        try:
            result = read_result(logs, files, None)
        except DataError as error:
            problems.append(str(error))
            continue
        problems += result.broken
        record = Record(suite="mllog", command=[], results=as_record(result), environment={})
        json.loads(to_json(record).encode())
        if result.runs:
            terminal = len(data) % 8 == 0
            shown = _printed(lambda: show([result], each_run=True), terminal)  # noqa: B023
            # On a terminal the table is drawn with escapes of its own.
            assert terminal or all(c.isprintable() or c == "\n" for c in shown), shown
    for problem in problems:
        printable(problem).encode()


def _printed(act: Callable[[], None], terminal: bool) -> str:
    """What ``act`` prints where standard output takes UTF-8 and nothing else."""
    stream = io.BytesIO()
    out = io.TextIOWrapper(stream, encoding="utf-8", errors="strict", write_through=True)
    out.isatty = lambda: terminal  # type: ignore[method-assign]
    with redirect_stdout(out):
        act()
    return stream.getvalue().decode()
