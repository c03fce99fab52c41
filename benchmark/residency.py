"""Which part of a file is in the page cache, and how to bring it there and out: no root needed.

``mincore`` tells a process about the pages of a file only where it owns the file or may write to it, and
calls all of them resident otherwise (Linux 5.0 and later); such a file is refused here.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_CHUNK = 1 << 24

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_MAP_FAILED = ctypes.c_void_p(-1).value


class ResidencyError(OSError):
    """The page cache cannot be seen or emptied here; the message says why, in one sentence."""


def resident_bytes(paths: Iterable[Path]) -> int:
    """Bytes of ``paths`` that are in the page cache, in whole pages but for the end of a file.

    Raises:
        ResidencyError: the kernel does not tell this user about one of them.
        OSError: one cannot be opened.
    """
    return sum(_resident(path) for path in paths)


def drop(paths: Iterable[Path]) -> None:
    """Write ``paths`` back and ask the kernel to forget their pages.

    Raises:
        ResidencyError: more than 1 % of a file stays: its file system lives in memory, or it is mapped.
        OSError: one cannot be opened.
    """
    for path in paths:
        with _opened(path) as descriptor:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if _resident(path) > max(path.stat().st_size // 100, mmap.PAGESIZE):
            raise ResidencyError(
                f"{path} stays in the page cache: its file system keeps files in memory, or another process "
                "has it mapped"
            )


def warm(paths: Iterable[Path]) -> float:
    """Read what is not yet in the page cache of ``paths``; the part of their bytes that then is.

    Raises:
        ResidencyError, OSError: as ``resident_bytes``.
    """
    paths = tuple(paths)
    for path in paths:
        if _resident(path) < path.stat().st_size:
            with path.open("rb", buffering=0) as file:
                while file.read(_CHUNK):
                    pass
    return resident_bytes(paths) / sum(path.stat().st_size for path in paths)


def _resident(path: Path) -> int:
    with _opened(path) as descriptor:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() and not os.access(path, os.W_OK):
            raise ResidencyError(
                f"the kernel does not tell which pages of {path} are cached: run as its owner, or make it "
                "writable"
            )
        if status.st_size == 0:
            return 0
        base = _libc.mmap(None, status.st_size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if base == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        try:
            pages = np.zeros(-(-status.st_size // mmap.PAGESIZE), dtype=np.uint8)
            if _libc.mincore(base, status.st_size, pages.ctypes.data):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        finally:
            _libc.munmap(base, status.st_size)
    resident = pages & 1
    # The last page holds the end of the file only.
    beyond = pages.size * mmap.PAGESIZE - status.st_size
    return int(resident.sum()) * mmap.PAGESIZE - int(resident[-1]) * beyond


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
