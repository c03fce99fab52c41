"""Write files so that a name either holds a whole file or does not exist. Needs numpy only."""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from preprocess.errors import UsageError

TEMPORARY_SUFFIX = ".part"
"""A file under this suffix is unfinished: a run that was killed left it, or one is writing it now."""

_NPY_DESCR = re.compile(rb"\x93NUMPY\x01\x00..\{'descr': '([<>|][a-z]\d+)'", re.DOTALL)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its name, durably, when the block ends well.

    When the block raises, the temporary is removed and ``path`` is untouched.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> int:
    """Delete what killed runs left unfinished in ``folder``; how many files that was."""
    leftovers = list(folder.glob(f"*{TEMPORARY_SUFFIX}"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Create ``folder``, keep other runs out of it, and leave no unfinished file in it, whatever happens.

    Raises:
        UsageError: it cannot be created, or another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another run is writing to {folder}; wait for it to end") from error
        remove_temporaries(folder)
        try:
            yield
        finally:
            remove_temporaries(folder)
    finally:
        os.close(descriptor)


class NpyStream:
    """A C-ordered ``.npy`` file of known shape and dtype, written piece by piece and hashed on the way."""

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._file = file
        self.dtype = np.dtype(dtype)
        self._hash = hashlib.md5(usedforsecurity=False)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self, header)

    def write(self, data: bytes | memoryview) -> None:
        """Append raw bytes."""
        self._file.write(data)
        self._hash.update(data)

    def append(self, piece: npt.NDArray[np.generic]) -> None:
        """Append the next elements in C order; the dtype must be the file's."""
        if piece.dtype != self.dtype:
            raise TypeError(f"the file holds {self.dtype}, the piece {piece.dtype}")
        self.write(np.ascontiguousarray(piece).data.cast("B"))

    @property
    def md5(self) -> str:
        """The md5 of everything written so far, header included, as hexadecimal digits."""
        return self._hash.hexdigest()


def npy_descr(path: Path) -> str | None:
    """The dtype that the header of a ``.npy`` file names (``<f4``), or None where there is no such header.

    Reads what ``numpy.save`` and ``NpyStream`` write. numpy's own parser raises errors of several kinds on a
    damaged header, and accepts more.
    """
    try:
        with path.open("rb") as file:
            match = _NPY_DESCR.match(file.read(64))
    except OSError:
        return None
    return match[1].decode("ascii") if match else None


def file_md5(path: Path) -> str:
    """The md5 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
