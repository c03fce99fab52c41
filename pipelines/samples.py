"""A training sample on its way from the files to a batch: what every loader that reads them has in common."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import apply
from pipelines.cases import Case
from pipelines.draw import Augmentation, Boxes, DrawConfig, check_fit, draw
from pipelines.errors import DataError, naming
from pipelines.foreground import BoxTable, check_classes, foreground_boxes
from pipelines.volume_reader import MappedVolume


class Sample(NamedTuple):
    """A crop of a case and what is to be done to it."""

    image: NDArray[np.float32]
    """D x H x W of the patch: a view into the page cache, read when it is copied."""
    label: NDArray[np.uint8]
    augmentation: Augmentation
    bytes_read: int
    """Bytes asked from the operating system for this sample, the foreground scan included."""


def open_case(case: Case) -> tuple[MappedVolume[np.float32], MappedVolume[np.uint8]]:
    """(image, label) of a case. Raises DataError if a file is not as preprocessing writes it."""
    image, label = MappedVolume(case.image, np.float32), MappedVolume(case.label, np.uint8)
    if image.shape != label.shape:
        raise DataError(
            f"{image.path} has shape {image.shape}, but {label.path} has {label.shape}: "
            f"preprocess {case.name} again"
        )
    return image, label


class Samples:
    """The training samples of a run. Copies in worker processes share the table of foreground boxes.

    All files are opened and their headers checked at once, so that a fault shows at the start and not hours
    later. Raises DataError, naming case or file, if one is not as preprocessing writes it or the patch does
    not fit.
    """

    def __init__(self, cases: Sequence[Case], config: DrawConfig, seed: int) -> None:
        self._volumes = [open_case(case) for case in cases]
        self._config = config
        self._seed = seed
        self._boxes = BoxTable(len(cases))
        for case, (image, _) in zip(cases, self._volumes, strict=True):
            with naming(case.name):
                check_fit(config.patch_shape, image.shape)

    def get(self, epoch: int, position: int, case: int) -> Sample:
        """The sample at place ``position`` of the global order of ``epoch``, from case number ``case``."""
        image, label = self._volumes[case]
        before = image.bytes_read + label.bytes_read
        window, augmentation = draw(
            self._config,
            seed=self._seed,
            epoch=epoch,
            sample=position,
            volume_shape=image.shape,
            boxes=lambda: self._boxes.get(case, lambda: _scan(label)),
        )
        patches = image.window(window), label.window(window)
        return Sample(*patches, augmentation, image.bytes_read + label.bytes_read - before)

    def write(
        self,
        epoch: int,
        position: int,
        case: int,
        out_image: NDArray[np.float32],
        out_label: NDArray[np.uint8],
    ) -> int:
        """Write the augmented sample into two D x H x W arrays; returns the bytes asked from the system.

        Raises DataError if the patch holds a class that MLPerf's KiTS19 has not.
        """
        sample = self.get(epoch, position, case)
        apply(sample.image, sample.label, sample.augmentation, out_image, out_label)
        with naming(self._volumes[case][1].path):
            check_classes(out_label)
        return sample.bytes_read


def _scan(label: MappedVolume[np.uint8]) -> Boxes:
    with naming(label.path):
        return foreground_boxes(label.whole())
