"""The host memory that batches travel in: a ring of slots."""

import math
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


class Ring(NamedTuple):
    """Batch slots that worker processes write and the consumer reads, without a copy between them."""

    image: Tensor
    """float32 (or float16), slots x N x 1 x D x H x W, C-contiguous."""
    label: Tensor
    """uint8, of the same shape."""

    def batch(self, slot: int, layout: Layout) -> Batch:
        """Slot ``slot`` as a batch: the same memory."""
        return Batch(with_layout(self.image[slot], layout), self.label[slot])


def make_ring(
    slots: int, batch_size: int, patch_shape: Shape, *, shared: bool, dtype: torch.dtype = torch.float32
) -> Ring:
    """A ring of ``slots`` batches, all its pages allocated; in shared memory if ``shared``.

    Raises DataError if shared memory has no room: a worker would die of SIGBUS at its first write.
    """
    if shared:
        check_shared_memory(slots, ring_bytes(slots, batch_size, patch_shape, itemsize=dtype.itemsize))
    shape = (slots, batch_size, 1, *patch_shape)
    ring = Ring(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=torch.uint8))
    return Ring(ring.image.share_memory_(), ring.label.share_memory_()) if shared else ring


def ring_bytes(slots: int, batch_size: int, patch_shape: Shape, *, itemsize: int) -> int:
    """Bytes of a ring whose images have ``itemsize`` bytes a voxel."""
    return slots * batch_size * math.prod(patch_shape) * (itemsize + 1)


def check_shared_memory(slots: int, needed: int) -> None:
    """Raise DataError unless shared memory has room for ``slots`` batch slots of ``needed`` bytes in all."""
    if needed > (free := shared_memory_free()):
        raise DataError(
            f"{slots} batch slots need {needed} bytes of shared memory, but {SHARED_MEMORY} has {free} free: "
            "enlarge it (docker run --shm-size), or lower --num_workers or --batch_size"
        )


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
