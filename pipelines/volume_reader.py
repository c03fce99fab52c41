"""Reads one window of a ``.npy`` volume with few bytes.

A 128^3 patch is 10 MB of a case of 150 MB. The file is mapped, and the window is copied straight out of the
page cache by whoever needs it, in one pass. Measured on float32 volumes of 30 million voxels and windows of
128^3 (one core, ms per window, warm / cold cache): ``preadv`` of bands 3.0 / 25, mapping alone 1.4 / 47,
mapping after ``MADV_WILLNEED`` for each z-slice's band 1.8 / 11 (chosen), ``np.load`` of the whole file
cold 269.

Mappings are kept: a new one for every window costs 1.5 ms more in page faults and unmapping. They are made
through libc, since Python's ``mmap`` would keep a descriptor open for each, 420 in every worker. A file that
is truncated while it is mapped ends the process that reads it with SIGBUS; replacing it is harmless.
"""

import ctypes
import math
import mmap
import os
import weakref
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipelines.augment import crop
from pipelines.draw import CropWindow, Shape
from pipelines.errors import DataError

_Scalar = TypeVar("_Scalar", bound=np.generic)

_REMEDY = "preprocess this case again"

_SYS_PROCESS_MADVISE = 440
"""From <asm-generic/unistd.h>, the same on all of Linux's newer architectures."""
_MAX_RANGES = 1024
"""UIO_MAXIOV: the ranges that one call takes."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MAP_FAILED = ctypes.c_void_p(-1).value


class MappedVolume(Generic[_Scalar]):
    """A 1 x D x H x W ``.npy`` file of one of ``dtypes``, mapped read-only.

    Raises DataError, before anything is mapped, if the file is absent or is not exactly that. No pickle is
    ever read. A pickled volume is opened again where it arrives.
    """

    def __init__(self, path: Path, *dtypes: type[_Scalar]) -> None:
        try:
            with path.open("rb") as file:
                shape, dtype, offset, size = _check_header(path, file, dtypes)
                base = _map(file, size)
                self._identity = os.fstat(file.fileno())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        self.path = path
        self.shape: Shape = shape
        """D x H x W."""
        self._dtypes, self._begin, self._end = dtypes, base + offset, base + size
        memory = (ctypes.c_char * size).from_address(base)
        # Every view keeps ``memory`` alive, and so the mapping.
        weakref.finalize(memory, _libc.munmap, base, size).atexit = False
        self._voxels: NDArray[_Scalar] = np.ndarray(shape, dtype, memoryview(memory).cast("B"), offset)
        self._voxels.flags.writeable = False

    def __reduce__(self) -> tuple[type["MappedVolume[_Scalar]"], tuple[Any, ...]]:
        return MappedVolume, (self.path, *self._dtypes)

    @property
    def dtype(self) -> np.dtype[_Scalar]:
        """Which of the dtypes it is."""
        return self._voxels.dtype

    def window(self, window: CropWindow) -> tuple[NDArray[_Scalar], int]:
        """The window as a read-only view into the page cache, its pages on their way from the disk; and the
        bytes asked from the operating system for it, in whole pages."""
        view = crop(self._voxels, window)
        if view.shape != window.shape:
            raise DataError(f"{window} reaches beyond {self.path} of shape {self.shape}")
        offset_z, offset_y, offset_x = (a * s for a, s in zip(window.start, view.strides, strict=True))
        depth, height, width = window.shape
        stride_z, stride_y, stride_x = view.strides
        band = (height - 1) * stride_y + width * stride_x
        first = self._begin + offset_z + offset_y + offset_x
        return view, self._ask(np.arange(depth, dtype=np.int64) * stride_z + first, band)

    def whole(self) -> tuple[NDArray[_Scalar], int]:
        """The volume as a read-only view into the page cache, and the bytes asked from the system for it."""
        return self._voxels, self._ask(np.array([self._begin], dtype=np.int64), self._end - self._begin)

    def _ask(self, begins: NDArray[np.int64], length: int) -> int:
        """Have ranges of ``length`` bytes read ahead; returns the bytes of their pages."""
        self._check_size()
        ends = begins + length
        ranges = np.stack([begins & -mmap.PAGESIZE, ends - (begins & -mmap.PAGESIZE)], axis=1)
        _read_ahead(ranges)
        return int((-(-ranges[:, 1] // mmap.PAGESIZE)).sum()) * mmap.PAGESIZE

    def _check_size(self) -> None:
        """Raise DataError where the file has shrunk: touching what is gone would end this process."""
        try:
            now = self.path.stat()
        except OSError:
            return  # Its name is gone, or stands for another file: what is mapped is still there.
        before = self._identity
        if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino) and now.st_size < before.st_size:
            raise DataError(
                f"{self.path} shrank from {before.st_size} to {now.st_size} bytes during the run: {_REMEDY}"
            )


def _read_ahead(ranges: NDArray[np.int64]) -> None:
    """MADV_WILLNEED for rows of (address, length): one call where the kernel takes them all at once.

    It is advice, so that a failure costs time alone; older kernels and some sandboxes refuse the one call.
    """
    process = os.pidfd_open(os.getpid())
    try:
        for first in range(0, len(ranges), _MAX_RANGES):
            part = np.ascontiguousarray(ranges[first : first + _MAX_RANGES])
            vector, count = ctypes.c_void_p(part.ctypes.data), ctypes.c_size_t(len(part))
            done = _libc.syscall(_SYS_PROCESS_MADVISE, process, vector, count, mmap.MADV_WILLNEED, 0)
            if done < 0:
                for begin, length in part.tolist():
                    _libc.madvise(begin, length, mmap.MADV_WILLNEED)
    finally:
        os.close(process)


def _map(file: BinaryIO, size: int) -> int:
    """Address of a shared, read-only mapping of a file; it needs the descriptor no longer."""
    base = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    if base == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(base)


def _check_header(
    path: Path, file: BinaryIO, dtypes: tuple[type[np.generic], ...]
) -> tuple[Shape, np.dtype[Any], int, int]:
    """((D, H, W), dtype, bytes before the data, bytes in all) of a file that is what it should be."""
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of the format")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, found = read(file)
    except ValueError as error:
        raise DataError(f"{path} is not a .npy file ({error}): {_REMEDY}") from error
    if found not in dtypes:
        expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise DataError(f"{path} holds {found}, expected {expected}: {_REMEDY}")
    if fortran:
        raise DataError(f"{path} is in Fortran order, expected C order: {_REMEDY}")
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise DataError(f"{path} has shape {shape}, expected (1, D, H, W) without empty axes: {_REMEDY}")
    offset = file.tell()
    whole = offset + math.prod(shape) * found.itemsize
    size = os.fstat(file.fileno()).st_size
    if size != whole:
        raise DataError(f"{path} has {size} bytes, expected {whole} for shape {shape}: {_REMEDY}")
    return shape[1:], found, offset, size
