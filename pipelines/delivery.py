"""The last part of a batch's way: from a slot of the ring to where training uses it."""

import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch.profiler import record_function

from pipelines.base import Batch
from pipelines.device_buffers import DeviceBuffers
from pipelines.slots import Layout, Ring


class Delivery(Protocol):
    """Hands out the batches of a ring, in the order in which they were filled."""

    transfer_s: float
    """Seconds that the last batch known to have arrived was under way."""

    def before(self, k: int) -> None:
        """To call when batch ``k`` is asked for, before its slot's successor is given to a worker."""
        ...

    def upload(self, k: int, slot: int) -> Batch:
        """Batch ``k``, from ``slot``."""
        ...

    def close(self) -> None:
        """Wait for what is under way, and give memory back."""
        ...


class HostDelivery:
    """Training is on the CPU: a batch is the slot itself (a converted copy, in another dtype)."""

    def __init__(self, ring: Ring, layout: Layout, image_dtype: torch.dtype) -> None:
        self._ring, self._layout, self._image_dtype = ring, layout, image_dtype
        self.transfer_s = 0.0

    def before(self, k: int) -> None:
        """See ``Delivery``."""

    def upload(self, k: int, slot: int) -> Batch:
        """See ``Delivery``."""
        begin = time.perf_counter()
        with record_function("transfer"):
            image, label = self._ring.batch(slot, self._layout)
            batch = Batch(image.to(self._image_dtype), label)
        self.transfer_s = time.perf_counter() - begin
        return batch

    def close(self) -> None:
        """See ``Delivery``."""


MakeDelivery = Callable[[Ring, Layout, torch.dtype, torch.device], Delivery]


def make_delivery(ring: Ring, layout: Layout, image_dtype: torch.dtype, device: torch.device) -> Delivery:
    """The way to ``device``."""
    if device.type == "cuda":
        return DeviceBuffers(ring, layout, image_dtype, device)
    return HostDelivery(ring, layout, image_dtype)
