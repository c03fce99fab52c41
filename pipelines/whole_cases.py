"""Whole cases on their way from the files into a cache, and what is wrong with them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.augment import copy
from pipelines.errors import CaseError, naming
from pipelines.file_mapping import Identity
from pipelines.finite import check_finite
from pipelines.foreground import check_classes
from pipelines.volumes import FileVolumes


class WholeCases:
    """Copies cases out of their files, and keeps in mind which were bad: while their files stay as they are,
    trying them again costs next to nothing."""

    def __init__(self, files: FileVolumes) -> None:
        self._files = files
        self._refused: dict[int, tuple[tuple[Identity, Identity], str]] = {}

    def copy(self, case: int, image: NDArray[Any], label: NDArray[np.uint8]) -> int:
        """Copy case number ``case`` into D x H x W arrays, C-contiguous, of float32 or float16, and uint8;
        returns the bytes asked from the operating system.

        Raises CaseError if a file is no longer what it was, the label holds a class that MLPerf's KiTS19 has
        not, or the image, in the dtype of ``image``, a value that is not finite.
        """
        opened = self._files.opened(case)
        refused = self._refused.get(case)
        if refused and refused[0] == opened and self._files.is_current(case):
            raise CaseError(refused[1])
        try:
            return self._copy(case, image, label)
        except CaseError as error:
            self._refused[case] = (opened, str(error))
            raise

    def _copy(self, case: int, image: NDArray[Any], label: NDArray[np.uint8]) -> int:
        image_path, label_path = self._files.paths(case)
        stored_label, label_bytes = self._files.label(case)
        with naming(label_path):
            check_classes(stored_label)
        copy(stored_label, label)
        stored, image_bytes = self._files.image(case)
        copy(stored, image)
        check_finite(image, image_path)
        return image_bytes + label_bytes
