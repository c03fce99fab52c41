"""The volumes of a run, and those that are kept in their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.bad_cases import OnBadCase
from pipelines.cases import Case
from pipelines.draw import CropWindow, Shape
from pipelines.errors import CaseError, DataError
from pipelines.file_mapping import Identity
from pipelines.volume_reader import MappedVolume

CacheDtype = Literal["stored", "float16"]
"""What images are kept as in a cache: as in their files, or rounded to float16."""

Image = NDArray[Any]
"""D x H x W, float32 or (where stored so) float16."""
Label = NDArray[np.uint8]


class Patch(NamedTuple):
    """A crop of a case, as views."""

    image: Image
    label: Label
    bytes_read: int
    """Bytes asked from the operating system for it."""


class Volumes(Protocol):
    """The cases of a run, by their number.

    Whatever reads a case raises CaseError, naming the file, where that is not what preprocessing writes, or
    no longer.
    """

    shapes: tuple[Shape | None, ...]
    """D x H x W of each case; None where it could not be read at the start."""
    dtype: np.dtype[Any]
    """Of all images."""
    host_cache: int
    """Bytes of host memory that they fill while they are read, once for all ranks of a machine."""
    description: str

    def shape(self, case: int) -> Shape:
        """D x H x W."""
        ...

    def patch(self, case: int, window: CropWindow) -> Patch:
        """A crop, wherever it is kept."""
        ...

    def label(self, case: int) -> tuple[Label, int]:
        """The whole label, and the bytes asked from the operating system for it."""
        ...

    def reopen(self, case: int) -> bool:
        """Have a case that was found bad read from its files as they are now; False where these are still
        those that it was read from, or no better."""
        ...


def open_case(case: Case) -> tuple[MappedVolume[Any], MappedVolume[np.uint8]]:
    """(image, label) of a case. Raises CaseError if a file is not as preprocessing writes it."""
    image: MappedVolume[Any] = MappedVolume(case.image, np.float32, np.float16)
    label = MappedVolume(case.label, np.uint8)
    if image.shape != label.shape:
        raise CaseError(
            f"{image.path} has shape {image.shape}, but {label.path} has {label.shape}: "
            f"preprocess {case.name} again"
        )
    return image, label


class FileVolumes:
    """The cases in their files, mapped; only what a window needs is read. See ``Volumes``.

    All files are opened and their headers checked at once, so that a fault shows at the start and not hours
    later. Raises DataError, naming the file, if float32 and float16 images are mixed, and if one is not as
    preprocessing writes it: under ``skip`` only if none is, and a case that could not be opened is tried
    again when it is drawn.
    """

    description = "windows read from the files"
    host_cache = 0

    def __init__(self, cases: Sequence[Case], on_bad_case: OnBadCase = "stop") -> None:
        self._cases = tuple(cases)
        self._volumes: dict[int, tuple[MappedVolume[Any], MappedVolume[np.uint8]]] = {}
        refused: list[CaseError] = []
        for number, case in enumerate(self._cases):
            try:
                self._volumes[number] = open_case(case)
            except CaseError as error:
                if on_bad_case == "stop":
                    raise
                refused.append(error)
        if not self._volumes:
            raise DataError(f"--on_bad_case skip has no good case left: {refused[0]}") from refused[0]
        self.shapes = tuple(
            self._volumes[number][0].shape if number in self._volumes else None
            for number in range(len(self._cases))
        )
        self._first = next(iter(self._volumes.values()))[0]
        self.dtype = self._first.dtype
        for image, _ in self._volumes.values():
            self._check_dtype(image)

    def shape(self, case: int) -> Shape:
        """See ``Volumes``."""
        return self.shapes[case] or self._of(case)[0].shape

    def patch(self, case: int, window: CropWindow) -> Patch:
        """See ``Volumes``."""
        image, label = self._of(case)
        (image_view, image_bytes), (label_view, label_bytes) = image.window(window), label.window(window)
        image.check()  # Again, since the label took its time.
        return Patch(image_view, label_view, image_bytes + label_bytes)

    def label(self, case: int) -> tuple[Label, int]:
        """See ``Volumes``."""
        return self._of(case)[1].whole()

    def image(self, case: int) -> tuple[Image, int]:
        """The whole image, and the bytes asked from the operating system for it."""
        return self._of(case)[0].whole()

    def paths(self, case: int) -> tuple[Path, Path]:
        """The files of a case: image, label."""
        return self._cases[case].image, self._cases[case].label

    def opened(self, case: int) -> tuple[Identity, Identity]:
        """Which files are open: image, label."""
        image, label = self._of(case)
        return image.identity, label.identity

    def is_current(self, case: int) -> bool:
        """Whether the files that are open are those in the folder."""
        return all(volume.is_current() for volume in self._of(case))

    def reopen(self, case: int) -> bool:
        """See ``Volumes``."""
        if case not in self._volumes or self.is_current(case):
            return False
        try:
            volumes = self._open(case)
        except CaseError:
            return False
        if volumes[0].shape != self.shapes[case]:
            return False
        self._volumes[case] = volumes
        return True

    def _of(self, case: int) -> tuple[MappedVolume[Any], MappedVolume[np.uint8]]:
        if case not in self._volumes:
            self._volumes[case] = self._open(case)
        return self._volumes[case]

    def _open(self, case: int) -> tuple[MappedVolume[Any], MappedVolume[np.uint8]]:
        volumes = open_case(self._cases[case])
        self._check_dtype(volumes[0])
        return volumes

    def _check_dtype(self, image: MappedVolume[Any]) -> None:
        if image.dtype != self.dtype:
            raise CaseError(
                f"{image.path} holds {image.dtype}, but {self._first.path} {self.dtype}: preprocess all "
                "cases with one --storage_dtype"
            )
