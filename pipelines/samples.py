"""A training sample before it is copied: what every loader that reads the data set starts from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.cases import Case
from pipelines.draw import Augmentation, Boxes, DrawConfig, draw
from pipelines.errors import DataError
from pipelines.foreground import BoxTable, foreground_boxes
from pipelines.volume_reader import MappedVolume
from preprocess.spec import NUM_CLASSES


class Sample(NamedTuple):
    """A crop of a case and what is to be done to it."""

    image: NDArray[np.float32]
    """D x H x W of the patch: a view into the page cache, read when it is copied."""
    label: NDArray[np.uint8]
    augmentation: Augmentation
    bytes_read: int
    """Bytes asked from the operating system for this sample, the foreground scan included."""


class Samples:
    """The training samples of a run. Copies in worker processes share the table of foreground boxes."""

    def __init__(self, cases: Sequence[Case], config: DrawConfig, seed: int) -> None:
        self._cases = tuple(cases)
        self._config = config
        self._seed = seed
        self._boxes = BoxTable(len(self._cases))

    def name(self, case: int) -> str:
        """Name of case number ``case``."""
        return self._cases[case].name

    def get(self, epoch: int, position: int, case: int) -> Sample:
        """The sample at place ``position`` of the global order of ``epoch``, from case number ``case``.

        Raises DataError, naming the case, if its files are not as preprocessing writes them or the patch
        does not fit.
        """
        files = self._cases[case]
        image = MappedVolume(files.image, np.float32)
        label = MappedVolume(files.label, np.uint8)
        if image.shape != label.shape:
            raise DataError(f"{files.image} has shape {image.shape}, but {files.label} has {label.shape}")

        def scan() -> Boxes:
            return foreground_boxes(label.whole())

        try:
            window, augmentation = draw(
                self._config,
                seed=self._seed,
                epoch=epoch,
                sample=position,
                volume_shape=image.shape,
                boxes=lambda: self._boxes.get(case, scan),
            )
        except DataError as error:
            raise DataError(f"{files.name}: {error}") from error
        patches = image.window(window), label.window(window)
        return Sample(*patches, augmentation, image.bytes_read + label.bytes_read)


def check_label(label: NDArray[np.uint8], case: str) -> None:
    """Raise DataError if a voxel is no class of MLPerf's KiTS19: a loss would index out of bounds."""
    if (highest := int(label.max())) >= NUM_CLASSES:
        raise DataError(f"{case}: the label holds class {highest}, expected 0 to {NUM_CLASSES - 1}")
