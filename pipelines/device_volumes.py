"""Whole volumes in the memory of the training device, each brought there when first touched."""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipelines.augment import copy
from pipelines.device_buffers import on
from pipelines.errors import DataError, naming
from pipelines.foreground import check_classes
from pipelines.volumes import CacheDtype, FileVolumes
from preprocess.machine import available_memory

_TORCH = {np.dtype(np.float32): torch.float32, np.dtype(np.float16): torch.float16}


class Resident(NamedTuple):
    """A case on the device."""

    image: Tensor
    """1 x D x H x W, float32 or float16."""
    label: Tensor
    """uint8, of the same shape."""


class DeviceVolumes:
    """The cases of a rank on its device; on the CPU, in this process's memory.

    Raises DataError, with the numbers, if they do not fit what is free when the loader is built.
    """

    def __init__(
        self, files: FileVolumes, own: Sequence[int], dtype: CacheDtype, device: torch.device
    ) -> None:
        self._files, self._device = files, device
        self.dtype: np.dtype[Any] = files.dtype if dtype == "stored" else np.dtype(np.float16)
        voxels = sum(d * h * w for d, h, w in (files.shapes[case] for case in own))
        size = voxels * (self.dtype.itemsize + 1)
        free = available_memory() if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
        if size > free:
            raise DataError(
                f"--data_cache device needs {size} bytes on {device} for {len(own)} cases, but {free} are "
                "free: use --cache_dtype float16, --sharding static on several ranks, or --data_cache host"
            )
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._locks = {case: threading.Lock() for case in own}
        self._resident: dict[int, Resident] = {}
        self.description = f"{size / 2**30:.1f} GiB resident on {device} as {self.dtype}"

    def get(self, case: int) -> tuple[Resident, int]:
        """Case number ``case``, and the bytes asked from the operating system to bring it there."""
        with self._locks[case]:
            bytes_read = 0
            if case not in self._resident:
                with on(self._device):
                    self._resident[case], bytes_read = self._bring(case)
            return self._resident[case], bytes_read

    def _bring(self, case: int) -> tuple[Resident, int]:
        lock = self._device.type == "cuda"
        shape = (1, *self._files.shapes[case])
        image = torch.empty(shape, dtype=_TORCH[self.dtype], pin_memory=lock)
        label = torch.empty(shape, dtype=torch.uint8, pin_memory=lock)
        stored, image_bytes = self._files.image(case)
        copy(stored, image.numpy()[0])
        stored_label, label_bytes = self._files.label(case)
        with naming(self._files.paths(case)[1]):
            check_classes(stored_label)
        copy(stored_label, label.numpy()[0])
        if self._stream is not None:
            # A stream of its own: work on the current one would wait for the training step.
            with torch.cuda.stream(self._stream):
                image, label = image.to(self._device), label.to(self._device)
            self._stream.synchronize()
        return Resident(image, label), image_bytes + label_bytes
