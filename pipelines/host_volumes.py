"""Whole volumes in memory that all ranks of the machine share."""

import ctypes
import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import crop
from pipelines.base import Neighbours
from pipelines.draw import CropWindow, Shape
from pipelines.errors import CaseError, DataError
from pipelines.shared_memory import one_for_all
from pipelines.volumes import CacheDtype, FileVolumes, Image, Label, Patch
from pipelines.whole_cases import WholeCases
from preprocess.machine import available_memory

_MLOCK_ONFAULT = 1
"""From <sys/mman.h>: lock each page when it is first touched."""


class HostVolumes:
    """The cases in memory that all ranks of a machine share, each filled when first touched: see ``Volumes``.

    Raises DataError if they do not fit the free memory. A case that could not be read at the start has no
    place in it.
    """

    def __init__(self, files: FileVolumes, dtype: CacheDtype, neighbours: Neighbours) -> None:
        self._files = files
        # The first rank's, since a file may come or go between the looks of two ranks.
        self.shapes = neighbours.agree(lambda: files.shapes)
        self.dtype = files.dtype if dtype == "stored" else np.dtype(np.float16)
        cases = len(self.shapes)
        # The labels after all images, so that every image is aligned; the marks of what is filled come last.
        voxels = [math.prod(shape) if shape else 0 for shape in self.shapes]
        self._images = np.cumsum([0, *voxels]) * self.dtype.itemsize
        self._labels = self._images[-1] + np.cumsum([0, *voxels])
        self.host_cache = size = int(self._labels[-1]) + cases

        def check_room() -> int:
            if size > (free := available_memory()):
                raise DataError(
                    f"--data_cache host needs {size} bytes for {cases} cases, but {free} are free: use "
                    "--data_cache none, or --cache_dtype float16 where images are float32"
                )
            return size

        self._block = one_for_all(neighbours.agree(check_room), cases, neighbours)
        self._filled: NDArray[Any] = self._block.array(int(self._labels[-1]), (cases,), np.uint8)
        self._whole = WholeCases(files)
        self._locked_by = 0
        self.description = f"{size / 2**30:.1f} GiB of shared host memory, {self._lock()}"

    def shape(self, case: int) -> Shape:
        """See ``Volumes``."""
        if (shape := self.shapes[case]) is None:
            raise CaseError(
                f"{self._files.paths(case)[0]} could not be read at the start, so --data_cache host has no "
                "place for it: mend it and start again"
            )
        return shape

    def patch(self, case: int, window: CropWindow) -> Patch:
        """See ``Volumes``."""
        image, label, bytes_read = self._of(case)
        return Patch(crop(image, window), crop(label, window), bytes_read)

    def label(self, case: int) -> tuple[Label, int]:
        """See ``Volumes``."""
        _, label, bytes_read = self._of(case)
        return label, bytes_read

    def reopen(self, case: int) -> bool:
        """See ``Volumes``."""
        return self._files.reopen(case)

    def _lock(self) -> str:
        """Lock what this process will touch: a fork does not inherit that from its parent."""
        self._locked_by = os.getpid()
        return _keep_from_swapping(self._block.array(0, (int(self._labels[-1]),), np.uint8))

    def _of(self, case: int) -> tuple[Image, Label, int]:
        if self._locked_by != os.getpid():
            self._lock()
        shape = self.shape(case)
        image: Image = self._block.array(int(self._images[case]), shape, self.dtype)
        label: NDArray[Any] = self._block.array(int(self._labels[case]), shape, np.uint8)
        if self._filled[case]:
            return image, label, 0
        with self._block.locked(case):
            if self._filled[case]:
                return image, label, 0
            bytes_read = self._whole.copy(case, image, label)
            self._filled[case] = 1
        return image, label, bytes_read


def _keep_from_swapping(memory: NDArray[Any]) -> str:
    """Lock pages when they are touched, where the limit on locked memory (``ulimit -l``) allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    address, size = ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes)
    if libc.mlock2(address, size, _MLOCK_ONFAULT) == 0:
        return "locked"
    return f"not locked ({os.strerror(ctypes.get_errno())})"
