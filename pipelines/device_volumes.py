"""Whole volumes in the memory of the training device: room for all, each brought there when first touched."""

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
        self._filled: set[int] = set()
        self._resident = {case: self._room(case) for case in own}
        if self._stream is not None:
            # The memory may have served work of this stream that is still to be done.
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self.description = f"{size / 2**30:.1f} GiB resident on {device} as {self.dtype}"

    def get(self, case: int) -> tuple[Resident, int]:
        """Case number ``case``, and the bytes asked from the operating system to bring it there."""
        with self._locks[case]:
            bytes_read = 0
            if case not in self._filled:
                with on(self._device):
                    bytes_read = self._fill(case)
                self._filled.add(case)
            return self._resident[case], bytes_read

    def close(self) -> None:
        """Free all of it."""
        self._resident.clear()

    def _room(self, case: int) -> Resident:
        """Memory for a case, taken at once, so that a network that comes later cannot take it."""
        shape = (1, *self._files.shapes[case])
        try:
            return Resident(
                torch.empty(shape, dtype=_TORCH[self.dtype], device=self._device),
                torch.empty(shape, dtype=torch.uint8, device=self._device),
            )
        except torch.OutOfMemoryError as error:
            raise DataError(
                f"--data_cache device: {self._device} has no room for a volume of {shape}, although it had "
                "enough free in all: use --cache_dtype float16, or --data_cache host"
            ) from error

    def _fill(self, case: int) -> int:
        there = self._resident[case]
        here = there
        if self._stream is not None:
            here = Resident(*(torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in there))
        stored, image_bytes = self._files.image(case)
        copy(stored, here.image.numpy()[0])
        stored_label, label_bytes = self._files.label(case)
        with naming(self._files.paths(case)[1]):
            check_classes(stored_label)
        copy(stored_label, here.label.numpy()[0])
        if self._stream is not None:
            # A stream of its own: work on the current one would wait for the training step.
            with torch.cuda.stream(self._stream):
                for target, source in zip(there, here, strict=True):
                    target.copy_(source, non_blocking=True)
            self._stream.synchronize()
        return image_bytes + label_bytes
