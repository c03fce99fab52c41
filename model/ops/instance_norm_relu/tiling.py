"""How the kernels see and cut a tensor: plain Python, so that it can be shown and tested without Triton."""

from dataclasses import dataclass

import torch
from torch import Tensor

KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

TILE_ELEMENTS = 2048
"""Elements of the tile that a program holds in registers: 16 for each of its 128 threads."""
CHANNEL_BLOCK = 64
"""Most channels of a tile. 64 divide 128, 256 and 320, and 64 of 16 bits fill a cache line of 128 bytes."""
PROGRAMS = 2048
"""A chunk grows until no more programs than these are launched: some 16 for each of a Hopper's 132 SMs."""
CHUNKS = 1024
"""Most chunks of a sample, for one program merges all their partial results in registers."""
MERGE_CHANNELS = 8
"""Channels that one program merges: 32 bytes of float32, the least that memory hands out."""


def power_of_two(number: int) -> int:
    """The least power of two that is not below ``number`` >= 1."""
    return 1 << (number - 1).bit_length()


@dataclass(frozen=True)
class Tiling:
    """A program walks a chunk of a sample: ``tiles`` times ``rows`` voxels x ``channel_block`` channels."""

    channel_block: int
    rows: int
    tiles: int
    channel_blocks: int
    chunks: int
    """Chunks of a sample; the last one may be cut short."""

    @property
    def chunk(self) -> int:
        """Voxels of a chunk."""
        return self.rows * self.tiles


def tiling(samples: int, channels: int, voxels: int) -> Tiling:
    """The cut of N samples of C channels and V voxels: a function of the shape alone, as are the bits."""
    channel_block = min(CHANNEL_BLOCK, power_of_two(channels))
    channel_blocks = -(-channels // channel_block)
    rows = min(TILE_ELEMENTS // channel_block, power_of_two(voxels))
    most = max(1, min(CHUNKS, PROGRAMS // (samples * channel_blocks)))
    tiles = power_of_two(-(-voxels // (rows * most)))
    return Tiling(channel_block, rows, tiles, channel_blocks, chunks=-(-voxels // (rows * tiles)))


def kernel_strides(tensor: Tensor) -> tuple[int, int] | None:
    """Elements from a sample to the next and from a voxel to the next, of an N x C x D x H x W tensor.

    None where the kernels cannot read it: channels must lie side by side and voxels at one distance, W inside
    H inside D, as in a ``channels_last_3d`` tensor and in a slice of its channels. The stride of an axis of
    size 1 means nothing, so a tensor of one channel fits in either memory format.
    """
    if tensor.shape[1] > 1 and tensor.stride(1) != 1:
        return None
    voxel, voxels = 0, 1
    for axis in (4, 3, 2):
        if tensor.shape[axis] > 1:
            voxel = tensor.stride(axis) if voxels == 1 else voxel
            if tensor.stride(axis) != voxel * voxels:
                return None
            voxels *= tensor.shape[axis]
    return tensor.stride(0), voxel
