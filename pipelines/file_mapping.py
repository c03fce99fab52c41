"""Files mapped into memory through libc, and asked for before they are touched.

Python's ``mmap`` would keep a descriptor open for each mapping, 420 in every worker.
"""

import ctypes
import errno
import mmap
import os
import weakref
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

_SYS_PROCESS_MADVISE = 440
"""From <asm-generic/unistd.h>, the same on all of Linux's newer architectures."""
_MAX_RANGES = 1024
"""UIO_MAXIOV: the ranges that one call takes."""


class _Range(ctypes.Structure):
    """``struct iovec`` of <sys/uio.h>."""

    _fields_ = (("begin", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.process_vm_readv.restype = ctypes.c_ssize_t
_MAP_FAILED = ctypes.c_void_p(-1).value


class Identity(NamedTuple):
    """Which file it is, and in which state."""

    device: int
    inode: int
    size: int
    """In bytes."""
    changed_ns: int
    """When its contents last changed."""

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        """From what the system tells."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def is_file_of(self, other: "Identity") -> bool:
        """Whether both are the same file, in whatever state."""
        return self[:2] == other[:2]


class Mapping:
    """The first ``size`` bytes of a file, mapped read-only; it needs no descriptor.

    Raises OSError where the system refuses. The mapping lives as long as ``memory`` or a view of it does.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        base = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        if base == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        memory = (ctypes.c_char * size).from_address(base)
        weakref.finalize(memory, _libc.munmap, base, size).atexit = False
        self.memory = memoryview(memory).cast("B")
        self.begin = int(base)
        """Address of the first byte."""
        self.end = self.begin + size

    def is_whole(self) -> bool:
        """Whether the file still reaches to the end of the mapping, asked of the kernel without a touch that
        could end this process."""
        byte = ctypes.create_string_buffer(1)
        here, there = _Range(ctypes.addressof(byte), 1), _Range(self.end - 1, 1)
        sizes = ctypes.c_ulong(1)
        one, other = ctypes.byref(here), ctypes.byref(there)
        done = _libc.process_vm_readv(os.getpid(), one, sizes, other, sizes, ctypes.c_ulong(0))
        # A sandbox may refuse the question; what was there a moment ago is then taken to be there.
        return bool(done == 1 or ctypes.get_errno() != errno.EFAULT)


def read_ahead(begins: NDArray[np.int64], length: int) -> int:
    """Have the pages of the ranges of ``length`` bytes from the addresses ``begins`` read; returns their
    bytes."""
    starts = begins & -mmap.PAGESIZE
    ranges = np.stack([starts, begins + length - starts], axis=1)
    _will_need(ranges)
    return int((-(-ranges[:, 1] // mmap.PAGESIZE)).sum()) * mmap.PAGESIZE


def _will_need(ranges: NDArray[np.int64]) -> None:
    """MADV_WILLNEED for rows of (address, length): one call where the kernel takes them all at once.

    It is advice, so that a failure costs time alone; older kernels and some sandboxes refuse the one call.
    """
    try:
        process = os.pidfd_open(os.getpid())
    except OSError:
        process = -1
    try:
        for first in range(0, len(ranges), _MAX_RANGES):
            part = np.ascontiguousarray(ranges[first : first + _MAX_RANGES])
            vector, count = ctypes.c_void_p(part.ctypes.data), ctypes.c_size_t(len(part))
            done = _libc.syscall(_SYS_PROCESS_MADVISE, process, vector, count, mmap.MADV_WILLNEED, 0)
            if done < 0:
                for begin, size in part.tolist():
                    _libc.madvise(begin, size, mmap.MADV_WILLNEED)
    finally:
        if process >= 0:
            os.close(process)
