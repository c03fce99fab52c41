"""The device memory that batches arrive in, at addresses that stay, and the way there from host memory."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from pipelines.base import Batch
from pipelines.draw import Shape
from pipelines.errors import DataError
from pipelines.slots import Layout, Ring, with_layout

_PORTABLE = 1
"""cudaHostRegisterPortable of the CUDA runtime: page-locked for every device."""


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Make ``device`` current for this thread: a new one would use GPU 0, page-locked memory included."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def static_batches(
    batch_size: int, patch_shape: Shape, layout: Layout, image_dtype: torch.dtype, device: torch.device
) -> tuple[Batch, Batch]:
    """Two batches that a loader fills in turn: one is consumed while the other is filled, and none is made
    anew."""
    shape = (batch_size, 1, *patch_shape)

    def batch() -> Batch:
        image = torch.empty(shape, dtype=image_dtype, device=device)
        return Batch(with_layout(image, layout), torch.empty(shape, dtype=torch.uint8, device=device))

    return batch(), batch()


class PageLock:
    """Host tensors that the device may read by itself while the host goes on."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._locked: list[Tensor] = []
        for tensor in tensors:
            register = torch.cuda.cudart().cudaHostRegister
            if status := int(register(tensor.data_ptr(), tensor.nbytes, _PORTABLE)):
                self.close()
                raise DataError(
                    f"cannot page-lock {tensor.nbytes} bytes of batch slots (CUDA error {status}): "
                    "lower --num_workers or --batch_size"
                )
            self._locked.append(tensor)

    def close(self) -> None:
        """Unlock them; no copy may be under way."""
        while self._locked:
            torch.cuda.cudart().cudaHostUnregister(self._locked.pop().data_ptr())


class DeviceBuffers:
    """Two batches on a CUDA device, filled in turn from the ring's page-locked slots on a stream of its own:
    a ``pipelines.delivery.Delivery``.

    The copy of batch k overlaps the consumer's work on batch k - 1, since the host asks for k while the
    device is still busy. Batch k goes where k - 2 was. When k - 1 was asked for, all work that reads
    k - 2 had been queued on the consumer's stream; the event recorded then is what the copy waits for.
    Where ``image_dtype`` is not the ring's, the device converts.
    """

    def __init__(self, ring: Ring, layout: Layout, image_dtype: torch.dtype, device: torch.device) -> None:
        self._ring, self._layout, self._device = ring, layout, device
        _, batch_size, _, *patch = ring.image.shape
        depth, height, width = patch
        self._buffers = static_batches(batch_size, (depth, height, width), layout, image_dtype, device)
        converts = image_dtype != ring.image.dtype
        self._arrived = torch.empty_like(ring.image[0], device=device) if converts else None
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        self._released = [torch.cuda.Event() for _ in range(2)]
        self._leaves = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self._copied = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self._lock = PageLock(ring)
        self.transfer_s = 0.0

    def before(self, k: int) -> None:
        """To call when batch ``k`` is asked for, before its slot's successor is given to a worker.

        Marks batch k - 1 as released and waits until slot k - 2, the next to be rewritten, has left the
        host.
        """
        self._released[(k - 1) % 2].record(torch.cuda.current_stream(self._device))
        self._copied[k % 2].synchronize()
        if k >= 2:
            self.transfer_s = self._leaves[k % 2].elapsed_time(self._copied[k % 2]) / 1000

    def upload(self, k: int, slot: int) -> Batch:
        """Batch ``k``, from ``slot``, for use on the consumer's current stream."""
        source, target = self._ring.batch(slot, self._layout), self._buffers[k % 2]
        self._stream.wait_event(self._released[k % 2])
        with torch.cuda.stream(self._stream), record_function("transfer"):
            self._leaves[k % 2].record(self._stream)
            if self._arrived is None:
                target.image.copy_(source.image, non_blocking=True)
            else:
                self._arrived.copy_(self._ring.image[slot], non_blocking=True)
                target.image.copy_(with_layout(self._arrived, self._layout))
            target.label.copy_(source.label, non_blocking=True)
        self._copied[k % 2].record(self._stream)
        torch.cuda.current_stream(self._device).wait_event(self._copied[k % 2])
        return target

    def close(self) -> None:
        """Wait for copies under way and unlock the ring's pages."""
        self._stream.synchronize()
        self._lock.close()
