"""A training sample on its way from the files to a batch: what every loader that reads them has in common."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import apply
from pipelines.bad_cases import Good, Met, OnBadCase, Substitutes
from pipelines.base import Neighbours
from pipelines.cases import Case
from pipelines.draw import Augmentation, Boxes, CropWindow, DrawConfig, Shape, check_fit, draw
from pipelines.errors import CaseError, naming
from pipelines.finite import check_finite
from pipelines.foreground import BoxTable, check_classes, foreground_boxes
from pipelines.telemetry import SampleTimes, SampleWatch
from pipelines.volumes import Patch, Volumes

_T = TypeVar("_T")


class Written(NamedTuple):
    """What it took to write a sample."""

    bytes_read: int
    """Bytes asked from the operating system."""
    times: SampleTimes
    met: tuple[Met, ...]
    """The bad cases that another one stands in for, see ``Good``."""


class Samples:
    """The training samples of a run. Worker processes and ranks share the table of foreground boxes.

    Args:
        cases: All training cases.
        volumes: Where they are kept.
        config: Of the draws.
        seed: Of the run.
        neighbours: The ranks to share with.
        on_bad_case: What becomes of a sample whose case is bad.
        own: The numbers of the cases that this rank reads, ascending, where it does not read all.

    Raises:
        DataError: The patch does not fit a case, which is named.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        volumes: Volumes,
        config: DrawConfig,
        seed: int,
        neighbours: Neighbours,
        on_bad_case: OnBadCase = "stop",
        own: Sequence[int] | None = None,
    ) -> None:
        self._cases, self._volumes = tuple(cases), volumes
        self._config = config
        self._seed = seed
        self._boxes = BoxTable(len(cases), neighbours)
        names = [case.name for case in cases]
        self._substitutes = Substitutes(names, range(len(cases)) if own is None else own, on_bad_case)
        for name, shape in zip(names, volumes.shapes, strict=True):
            with naming(name):
                check_fit(config.patch_shape, shape or config.patch_shape)

    @property
    def patch_shape(self) -> Shape:
        """D x H x W of a patch."""
        return self._config.patch_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the images as they are kept."""
        return self._volumes.dtype

    @property
    def host_cache(self) -> int:
        """Bytes of memory that the volumes will fill on this machine."""
        return self._volumes.host_cache

    @property
    def description(self) -> str:
        """Where the volumes are kept."""
        return self._volumes.description

    def names(self, cases: Iterable[int]) -> str:
        """Cases by their names, for a message."""
        return ", ".join(self._cases[case].name for case in cases)

    def first_good(self, case: int, make: Callable[[int], _T]) -> Good[_T]:
        """What ``make`` returns for ``case`` or the first good substitute, see ``Substitutes``. A bad case
        whose files are others by now is opened anew."""

        def attempt(candidate: int) -> _T:
            try:
                return make(candidate)
            except CaseError:
                if not self._volumes.reopen(candidate):
                    raise
                return make(candidate)

        return self._substitutes.first_good(case, attempt)

    def draw(self, epoch: int, position: int, case: int) -> tuple[CropWindow, Augmentation, int]:
        """What happens to the sample at place ``position`` of the global order of ``epoch``, from case
        number ``case``; and the bytes asked from the system for its label, where that had to be searched."""
        searched = []

        def search() -> Boxes:
            label, bytes_read = self._volumes.label(case)
            searched.append(bytes_read)
            with naming(self._cases[case].label):
                return foreground_boxes(label)

        window, augmentation = draw(
            self._config,
            seed=self._seed,
            epoch=epoch,
            sample=position,
            volume_shape=self._volumes.shape(case),
            boxes=lambda: self._boxes.get(case, search),
        )
        return window, augmentation, sum(searched)

    def patch(self, case: int, window: CropWindow) -> Patch:
        """The crop, as views of wherever the volumes are kept."""
        return self._volumes.patch(case, window)

    def check(self, case: int, label: NDArray[np.uint8]) -> None:
        """Raise CaseError, naming the file, if ``label`` holds a class that MLPerf's KiTS19 has not."""
        with naming(self._cases[case].label):
            check_classes(label)

    def check_image(self, case: int, window: CropWindow, patch: NDArray[Any]) -> None:
        """Raise CaseError, naming case and file, if a float32 or float16 patch, C-contiguous and as it was
        read, holds a value that is not finite."""
        name, path = self._cases[case].name, self._cases[case].image
        check_finite(patch, f"{path}: the patch of {name} from voxel {window.start} on")

    def write(
        self,
        epoch: int,
        position: int,
        case: int,
        out_image: NDArray[np.float32],
        out_label: NDArray[np.uint8],
    ) -> Written:
        """Write the augmented sample, or another case's in its place, into two D x H x W arrays.

        Raises CaseError for a fault in the case, and DataError if no case is good: see ``first_good``.
        """
        good = self.first_good(
            case, lambda candidate: self._write(epoch, position, candidate, out_image, out_label)
        )
        return Written(*good.made, good.met)

    def _write(
        self,
        epoch: int,
        position: int,
        case: int,
        out_image: NDArray[np.float32],
        out_label: NDArray[np.uint8],
    ) -> tuple[int, SampleTimes]:
        watch = SampleWatch()
        window, augmentation, searched = self.draw(epoch, position, case)
        watch.reading()
        patch = self.patch(case, window)
        watch.read()

        def check() -> None:
            self.check(case, out_label)
            self.check_image(case, window, out_image)

        apply(patch.image, patch.label, augmentation, out_image, out_label, check)
        return searched + patch.bytes_read, watch.done()
