"""A training sample on its way from the files to a batch: what every loader that reads them has in common."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import apply
from pipelines.base import Neighbours
from pipelines.cases import Case
from pipelines.draw import Augmentation, Boxes, CropWindow, DrawConfig, Shape, check_fit, draw
from pipelines.errors import naming
from pipelines.foreground import BoxTable, check_classes, foreground_boxes
from pipelines.telemetry import SampleTimes, SampleWatch
from pipelines.volumes import Patch, Volumes


class Samples:
    """The training samples of a run. Worker processes and ranks share the table of foreground boxes.

    Raises DataError, naming the case, if the patch does not fit one.
    """

    def __init__(
        self, cases: Sequence[Case], volumes: Volumes, config: DrawConfig, seed: int, neighbours: Neighbours
    ) -> None:
        self._cases, self._volumes = tuple(cases), volumes
        self._config = config
        self._seed = seed
        self._boxes = BoxTable(len(cases), neighbours)
        for case, shape in zip(cases, volumes.shapes, strict=True):
            with naming(case.name):
                check_fit(config.patch_shape, shape)

    @property
    def patch_shape(self) -> Shape:
        """D x H x W of a patch."""
        return self._config.patch_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the images as they are kept."""
        return self._volumes.dtype

    @property
    def description(self) -> str:
        """Where the volumes are kept."""
        return self._volumes.description

    def names(self, cases: Iterable[int]) -> str:
        """Cases by their names, for a message."""
        return ", ".join(self._cases[case].name for case in cases)

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
            volume_shape=self._volumes.shapes[case],
            boxes=lambda: self._boxes.get(case, search),
        )
        return window, augmentation, sum(searched)

    def patch(self, case: int, window: CropWindow) -> Patch:
        """The crop, as views of wherever the volumes are kept."""
        return self._volumes.patch(case, window)

    def check(self, case: int, label: NDArray[np.uint8]) -> None:
        """Raise DataError, naming the file, if ``label`` holds a class that MLPerf's KiTS19 has not."""
        with naming(self._cases[case].label):
            check_classes(label)

    def write(
        self,
        epoch: int,
        position: int,
        case: int,
        out_image: NDArray[np.float32],
        out_label: NDArray[np.uint8],
    ) -> tuple[int, SampleTimes]:
        """Write the augmented sample into two D x H x W arrays; returns the bytes asked from the system, and
        how long it took.

        Raises DataError if the patch holds a class that MLPerf's KiTS19 has not.
        """
        watch = SampleWatch()
        window, augmentation, searched = self.draw(epoch, position, case)
        watch.reading()
        patch = self.patch(case, window)
        watch.read()
        apply(patch.image, patch.label, augmentation, out_image, out_label)
        self.check(case, out_label)
        return searched + patch.bytes_read, watch.done()
