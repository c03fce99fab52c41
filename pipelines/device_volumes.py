"""Whole volumes in the memory of the training device: room for all, each brought there when first touched."""

import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipelines.device_buffers import on
from pipelines.draw import Shape
from pipelines.errors import CaseError, DataError
from pipelines.volumes import CacheDtype, FileVolumes
from pipelines.whole_cases import WholeCases
from preprocess.machine import available_memory

_TORCH = {np.dtype(np.float32): torch.float32, np.dtype(np.float16): torch.float16}


class Resident(NamedTuple):
    """A case on the device."""

    image: Tensor
    """1 x D x H x W, float32 or float16."""
    label: Tensor
    """uint8, of the same shape."""


def device_bytes(files: FileVolumes, own: Sequence[int], dtype: CacheDtype) -> int:
    """Bytes of the cases of a rank as its device would keep them."""
    itemsize = files.dtype.itemsize if dtype == "stored" else 2
    return sum(math.prod(shape) for case in own if (shape := files.shapes[case])) * (itemsize + 1)


class DeviceVolumes:
    """The cases of a rank on its device; on the CPU, in this process's memory.

    Raises DataError, with the numbers, if they do not fit what is free when the loader is built. A case that
    could not be read then has no place.
    """

    def __init__(
        self, files: FileVolumes, own: Sequence[int], dtype: CacheDtype, device: torch.device
    ) -> None:
        self._files, self._device = files, device
        self.dtype: np.dtype[Any] = files.dtype if dtype == "stored" else np.dtype(np.float16)
        shapes = {case: shape for case in own if (shape := files.shapes[case])}
        size = device_bytes(files, own, dtype)
        free = available_memory() if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
        if size > free:
            raise DataError(
                f"--data_cache device needs {size} bytes on {device} for {len(own)} cases, but {free} are "
                "free: use --cache_dtype float16, --sharding static on several ranks, or --data_cache host"
            )
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._whole = WholeCases(files)
        self._locks = {case: threading.Lock() for case in shapes}
        self._filled: set[int] = set()
        self._resident = {case: self._room(shape) for case, shape in shapes.items()}
        if self._stream is not None:
            # The memory may have served work of this stream that is still to be done.
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self.description = f"{size / 2**30:.1f} GiB resident on {device} as {self.dtype}"

    def get(self, case: int) -> tuple[Resident, int]:
        """Case number ``case``, and the bytes asked from the operating system to bring it there.

        Raises CaseError as ``WholeCases.copy``, and if it has no place.
        """
        if case not in self._locks:
            raise CaseError(
                f"{self._files.paths(case)[0]} could not be read at the start, so --data_cache device has no "
                "place for it: mend it and start again"
            )
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

    def _room(self, of_case: Shape) -> Resident:
        """Memory for a case, taken at once, so that a network that comes later cannot take it."""
        shape = (1, *of_case)
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
        bytes_read = self._whole.copy(case, here.image.numpy()[0], here.label.numpy()[0])
        if self._stream is not None:
            # A stream of its own: work on the current one would wait for the training step.
            with torch.cuda.stream(self._stream):
                for target, source in zip(there, here, strict=True):
                    target.copy_(source, non_blocking=True)
            self._stream.synchronize()
        return bytes_read
