"""Where whole volumes are kept: in their files, or in memory that all ranks of the machine share."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import copy, crop
from pipelines.base import Neighbours
from pipelines.cases import Case
from pipelines.draw import CropWindow, Shape
from pipelines.errors import DataError, naming
from pipelines.foreground import check_classes
from pipelines.shared_memory import one_for_all
from pipelines.volume_reader import MappedVolume
from preprocess.machine import available_memory

CacheDtype = Literal["stored", "float16"]
"""What images are kept as in a cache: as in their files, or rounded to float16."""

Image = NDArray[Any]
"""D x H x W, float32 or (where stored so) float16."""
Label = NDArray[np.uint8]

_MLOCK_ONFAULT = 1
"""From <sys/mman.h>: lock each page when it is first touched."""


class Patch(NamedTuple):
    """A crop of a case, as views."""

    image: Image
    label: Label
    bytes_read: int
    """Bytes asked from the operating system for it."""


class Volumes(Protocol):
    """The cases of a run, by their number."""

    shapes: tuple[Shape, ...]
    """D x H x W of each case."""
    dtype: np.dtype[Any]
    """Of all images."""
    description: str

    def patch(self, case: int, window: CropWindow) -> Patch:
        """A crop, wherever it is kept."""
        ...

    def label(self, case: int) -> tuple[Label, int]:
        """The whole label, and the bytes asked from the operating system for it."""
        ...


def open_case(case: Case) -> tuple[MappedVolume[Any], MappedVolume[np.uint8]]:
    """(image, label) of a case. Raises DataError if a file is not as preprocessing writes it."""
    image: MappedVolume[Any] = MappedVolume(case.image, np.float32, np.float16)
    label = MappedVolume(case.label, np.uint8)
    if image.shape != label.shape:
        raise DataError(
            f"{image.path} has shape {image.shape}, but {label.path} has {label.shape}: "
            f"preprocess {case.name} again"
        )
    return image, label


class FileVolumes:
    """The cases in their files, mapped; only what a window needs is read. See ``Volumes``.

    All files are opened and their headers checked at once, so that a fault shows at the start and not hours
    later. Raises DataError, naming the file, if one is not as preprocessing writes it, or float32 and
    float16 images are mixed.
    """

    description = "windows read from the files"

    def __init__(self, cases: Sequence[Case]) -> None:
        self._volumes = [open_case(case) for case in cases]
        self.shapes = tuple(image.shape for image, _ in self._volumes)
        first = self._volumes[0][0]
        self.dtype = first.dtype
        for image, _ in self._volumes:
            if image.dtype != self.dtype:
                raise DataError(
                    f"{image.path} holds {image.dtype}, but {first.path} {self.dtype}: preprocess all cases "
                    "with one --storage_dtype"
                )

    def patch(self, case: int, window: CropWindow) -> Patch:
        """See ``Volumes``."""
        image, label = self._volumes[case]
        (image_view, image_bytes), (label_view, label_bytes) = image.window(window), label.window(window)
        return Patch(image_view, label_view, image_bytes + label_bytes)

    def label(self, case: int) -> tuple[Label, int]:
        """See ``Volumes``."""
        return self._volumes[case][1].whole()

    def image(self, case: int) -> tuple[Image, int]:
        """The whole image, and the bytes asked from the operating system for it."""
        return self._volumes[case][0].whole()

    def paths(self, case: int) -> tuple[Path, Path]:
        """The files of a case: image, label."""
        image, label = self._volumes[case]
        return image.path, label.path


class HostVolumes:
    """The cases in memory that all ranks of a machine share, each filled when first touched: see ``Volumes``.

    Raises DataError if they do not fit the free memory.
    """

    def __init__(self, files: FileVolumes, dtype: CacheDtype, neighbours: Neighbours) -> None:
        self._files = files
        self.shapes = files.shapes
        self.dtype = files.dtype if dtype == "stored" else np.dtype(np.float16)
        cases = len(files.shapes)
        # The labels after all images, so that every image is aligned; the marks of what is filled come last.
        voxels = [d * h * w for d, h, w in files.shapes]
        self._images = np.cumsum([0, *voxels]) * self.dtype.itemsize
        self._labels = self._images[-1] + np.cumsum([0, *voxels])
        size = int(self._labels[-1]) + cases

        def check_room() -> int:
            if size > (free := available_memory()):
                raise DataError(
                    f"--data_cache host needs {size} bytes for {cases} cases, but {free} are free: use "
                    "--data_cache none, or --cache_dtype float16 where images are float32"
                )
            return size

        self._block = one_for_all(neighbours.agree(check_room), cases, neighbours)
        self._filled: NDArray[Any] = self._block.array(int(self._labels[-1]), (cases,), np.uint8)
        self._locked_by = 0
        self.description = f"{size / 2**30:.1f} GiB of shared host memory, {self._lock()}"

    def patch(self, case: int, window: CropWindow) -> Patch:
        """See ``Volumes``."""
        image, label, bytes_read = self._of(case)
        return Patch(crop(image, window), crop(label, window), bytes_read)

    def label(self, case: int) -> tuple[Label, int]:
        """See ``Volumes``."""
        _, label, bytes_read = self._of(case)
        return label, bytes_read

    def _lock(self) -> str:
        """Lock what this process will touch: a fork does not inherit that from its parent."""
        self._locked_by = os.getpid()
        return _keep_from_swapping(self._block.array(0, (int(self._labels[-1]),), np.uint8))

    def _of(self, case: int) -> tuple[Image, Label, int]:
        if self._locked_by != os.getpid():
            self._lock()
        image: Image = self._block.array(int(self._images[case]), self.shapes[case], self.dtype)
        label: NDArray[Any] = self._block.array(int(self._labels[case]), self.shapes[case], np.uint8)
        if self._filled[case]:
            return image, label, 0
        with self._block.locked(case):
            if self._filled[case]:
                return image, label, 0
            (stored, image_bytes), (stored_label, label_bytes) = (
                self._files.image(case),
                self._files.label(case),
            )
            with naming(self._files.paths(case)[1]):
                check_classes(stored_label)
            copy(stored, image)
            copy(stored_label, label)
            self._filled[case] = 1
        return image, label, image_bytes + label_bytes


def _keep_from_swapping(memory: NDArray[Any]) -> str:
    """Lock pages when they are touched, where the limit on locked memory (``ulimit -l``) allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    address, size = ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes)
    if libc.mlock2(address, size, _MLOCK_ONFAULT) == 0:
        return "locked"
    return f"not locked ({os.strerror(ctypes.get_errno())})"
