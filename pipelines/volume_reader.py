"""Reads one window of a ``.npy`` volume with few bytes.

A 128^3 patch is 10 MB of a case of 150 MB. The file is mapped, and the window is copied straight out of the
page cache by whoever needs it, in one pass. Measured on float32 volumes of 30 million voxels and windows of
128^3 (one core, ms per window, warm / cold cache): ``preadv`` of bands 3.0 / 25, mapping alone 1.4 / 47,
mapping after ``MADV_WILLNEED`` for each z-slice's band 1.8 / 11 (chosen), ``np.load`` of the whole file
cold 269.

Mappings are kept: a new one for every window costs 1.5 ms more in page faults and unmapping. The price: a
file that is truncated while a window of it is being copied, or that its disk cannot deliver, ends the process
that reads it with SIGBUS. The size is asked last before the copy, so that the first needs an accident within
a few milliseconds.
"""

import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import crop
from pipelines.draw import CropWindow, Shape
from pipelines.errors import CaseError
from pipelines.file_mapping import Identity, Mapping, read_ahead
from pipelines.npy_header import read_header

_Scalar = TypeVar("_Scalar", bound=np.generic)

_REMEDY = "preprocess this case again"


class MappedVolume(Generic[_Scalar]):
    """A 1 x D x H x W ``.npy`` file of one of ``dtypes``, mapped read-only.

    Raises CaseError, before anything is mapped, if the file is absent or is not exactly that; and when it is
    read, if it has since been written to. Where its name is gone or stands for another file, what was opened
    is still there and is read. No pickle is ever read. A pickled volume is opened again where it arrives.
    """

    def __init__(self, path: Path, *dtypes: type[_Scalar]) -> None:
        try:
            # A pipe would be waited for until somebody writes.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise CaseError(f"cannot read {path}: no regular file: {_REMEDY}")
                self.identity = Identity.of(status)
                shape, dtype, offset = _check_header(path, file, self.identity.size, dtypes)
                self._mapping = Mapping(file, self.identity.size)
        except OSError as error:
            raise CaseError(f"cannot read {path}: {error.strerror or error}") from error
        self.path = path
        self.shape: Shape = shape
        """D x H x W."""
        self._dtypes, self._begin = dtypes, self._mapping.begin + offset
        self._voxels: NDArray[_Scalar] = np.ndarray(shape, dtype, self._mapping.memory, offset)
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
            raise CaseError(f"{window} reaches beyond {self.path} of shape {self.shape}")
        offset_z, offset_y, offset_x = (a * s for a, s in zip(window.start, view.strides, strict=True))
        depth, height, width = window.shape
        stride_z, stride_y, stride_x = view.strides
        band = (height - 1) * stride_y + width * stride_x
        first = self._begin + offset_z + offset_y + offset_x
        asked = read_ahead(np.arange(depth, dtype=np.int64) * stride_z + first, band)
        self.check()
        return view, asked

    def whole(self) -> tuple[NDArray[_Scalar], int]:
        """The volume as a read-only view into the page cache, and the bytes asked from the system for it."""
        asked = read_ahead(np.array([self._begin], dtype=np.int64), self._mapping.end - self._begin)
        self.check()
        return self._voxels, asked

    def is_current(self) -> bool:
        """Whether its name still stands for what was opened, which nobody has written to."""
        return _identity(self.path) == self.identity

    def check(self) -> None:
        """Raise CaseError if the file was written to since it was opened.

        To be called last before voxels are touched: touching what is gone would end this process.
        """
        now, before = _identity(self.path), self.identity
        if now == before:
            return
        if now is None or not now.is_file_of(before):
            # What was opened is still there, unless it shrank before its name went.
            if not self._mapping.is_whole():
                raise CaseError(f"{self.path} shrank and was then replaced during the run: {_REMEDY}")
        elif now.size != before.size:
            how = "shrank" if now.size < before.size else "grew"
            raise CaseError(
                f"{self.path} {how} from {before.size} to {now.size} bytes during the run: {_REMEDY}"
            )
        else:
            raise CaseError(f"{self.path} was written to during the run: {_REMEDY}")


def _identity(path: Path) -> Identity | None:
    """Which file ``path`` stands for at the moment; None where it cannot be told."""
    try:
        return Identity.of(path.stat())
    except OSError:
        return None


def _check_header(
    path: Path, file: BinaryIO, size: int, dtypes: tuple[type[np.generic], ...]
) -> tuple[Shape, np.dtype[Any], int]:
    """((D, H, W), dtype, bytes before the data) of a file of ``size`` bytes that is what it should be."""
    try:
        shape, fortran, found, offset = read_header(file)
    except ValueError as error:
        raise CaseError(f"{path} is not a .npy file ({error}): {_REMEDY}") from error
    if found not in dtypes:
        expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise CaseError(f"{path} holds {found}, expected {expected}: {_REMEDY}")
    if fortran:
        raise CaseError(f"{path} is in Fortran order, expected C order: {_REMEDY}")
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        raise CaseError(f"{path} has shape {shape}, expected (1, D, H, W) without empty axes: {_REMEDY}")
    whole = offset + math.prod(shape) * found.itemsize
    if size != whole:
        raise CaseError(f"{path} has {size} bytes, expected {whole} for shape {shape}: {_REMEDY}")
    return shape[1:], found, offset
