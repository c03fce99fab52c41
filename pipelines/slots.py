"""The memory that batches travel in: a ring of shared host slots, and two device buffers behind it."""

import os
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipelines.base import Batch
from pipelines.draw import Shape
from pipelines.errors import DataError

Layout = Literal["NCDHW", "NDHWC"]

SHARED_MEMORY = "/dev/shm"
"""Where POSIX shared memory, and so torch's, lies on Linux."""

_PORTABLE = 1
"""cudaHostRegisterPortable of the CUDA runtime: page-locked for every device."""


class Ring(NamedTuple):
    """Batch slots that worker processes write and the consumer reads, without a copy between them."""

    image: Tensor
    """float32, slots x N x 1 x D x H x W, C-contiguous."""
    label: Tensor
    """uint8, of the same shape."""

    def batch(self, slot: int, layout: Layout) -> Batch:
        """Slot ``slot`` as a batch: the same memory."""
        return Batch(with_layout(self.image[slot], layout), self.label[slot])


def make_ring(slots: int, batch_size: int, patch_shape: Shape, *, shared: bool) -> Ring:
    """A ring of ``slots`` batches, all its pages allocated; in shared memory if ``shared``.

    Raises DataError if shared memory has no room: a worker would die of SIGBUS at its first write.
    """
    shape = (slots, batch_size, 1, *patch_shape)
    ring = Ring(torch.zeros(shape, dtype=torch.float32), torch.zeros(shape, dtype=torch.uint8))
    if not shared:
        return ring
    needed, free = ring.image.nbytes + ring.label.nbytes, shared_memory_free()
    if needed > free:
        raise DataError(
            f"{slots} batch slots need {needed} bytes of shared memory, but {SHARED_MEMORY} has {free} free: "
            "enlarge it (docker run --shm-size), or lower --num_workers or --batch_size"
        )
    return Ring(ring.image.share_memory_(), ring.label.share_memory_())


def shared_memory_free() -> int:
    """Bytes that this process may still allocate in shared memory."""
    status = os.statvfs(SHARED_MEMORY)
    return status.f_bavail * status.f_frsize


def with_layout(image: Tensor, layout: Layout) -> Tensor:
    """The N x 1 x D x H x W image with the strides of ``layout``: the same memory.

    With one channel both layouts lie alike in memory. Only the stride of the channel axis tells torch
    that an image is ``channels_last_3d``, so that is what is set.
    """
    if layout == "NCDHW":
        return image
    n, d, h, w = (image.stride(axis) for axis in (0, 2, 3, 4))
    return image.as_strided(image.shape, (n, 1, d, h, w))


class DeviceBuffers:
    """Two batches on a CUDA device, filled in turn from the ring's page-locked slots on a stream of its own.

    The copy of batch k overlaps the consumer's work on batch k - 1, since the host asks for k while the
    device is still busy. Batch k goes where k - 2 was. When k - 1 was asked for, all work that reads
    k - 2 had been queued on the consumer's stream; the event recorded then is what the copy waits for.
    """

    def __init__(self, ring: Ring, layout: Layout, device: torch.device) -> None:
        self._ring, self._layout, self._device = ring, layout, device
        buffers = Ring(*(torch.empty((2, *t.shape[1:]), dtype=t.dtype, device=device) for t in ring))
        self._buffers = [buffers.batch(i, layout) for i in range(2)]
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        self._released = [torch.cuda.Event() for _ in range(2)]
        self._copied = [torch.cuda.Event() for _ in range(2)]
        self._locked: list[Tensor] = []
        for tensor in ring:
            register = torch.cuda.cudart().cudaHostRegister
            if status := int(register(tensor.data_ptr(), tensor.nbytes, _PORTABLE)):
                self.close()
                raise DataError(
                    f"cannot page-lock {tensor.nbytes} bytes of batch slots (CUDA error {status}): "
                    "lower --num_workers or --batch_size"
                )
            self._locked.append(tensor)

    def before(self, k: int) -> None:
        """To call when batch ``k`` is asked for, before its slot's successor is given to a worker.

        Marks batch k - 1 as released and waits until slot k - 2, the next to be rewritten, has left the
        host.
        """
        self._released[(k - 1) % 2].record(torch.cuda.current_stream(self._device))
        self._copied[k % 2].synchronize()

    def upload(self, k: int, slot: int) -> Batch:
        """Batch ``k``, from ``slot``, for use on the consumer's current stream."""
        source, target = self._ring.batch(slot, self._layout), self._buffers[k % 2]
        self._stream.wait_event(self._released[k % 2])
        with torch.cuda.stream(self._stream):
            target.image.copy_(source.image, non_blocking=True)
            target.label.copy_(source.label, non_blocking=True)
        self._copied[k % 2].record(self._stream)
        torch.cuda.current_stream(self._device).wait_event(self._copied[k % 2])
        return target

    def close(self) -> None:
        """Wait for copies under way and unlock the ring's pages."""
        self._stream.synchronize()
        while self._locked:
            torch.cuda.cudart().cudaHostUnregister(self._locked.pop().data_ptr())
