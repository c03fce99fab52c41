"""U-Net3D of the MLPerf Training benchmark (v0.5 to v4.0)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from model.layers import DoubleConv, OutputLayer, UpsampleBlock

MLPERF_FILTERS = (32, 64, 128, 256, 320)
"""Channels per resolution level of the MLPerf network: 31.19 M parameters."""


class Unet3D(nn.Module):
    """Encoder, bottleneck and decoder with skip connections.

    The image is halved ``len(filters)`` times (four times by the encoder and once more by the bottleneck
    for the five MLPerf filters), so D, H and W must be multiples of ``2 ** len(filters)``.

    Args:
        in_channels: Channels of the image (1 for CT).
        n_class: Number of logits per voxel (3 for KiTS19).
        normalization: ``instancenorm`` (MLPerf), ``batchnorm``, ``syncbatchnorm`` or ``none``.
        activation: ``relu`` (MLPerf), ``leaky_relu`` or ``none``.
        filters: Channels per level, from full resolution downwards; any depth from 1.

    Raises:
        ValueError: An unknown normalization or activation, or filters that are empty or not positive.
    """

    def __init__(
        self,
        in_channels: int,
        n_class: int,
        normalization: str = "instancenorm",
        activation: str = "relu",
        filters: Sequence[int] = MLPERF_FILTERS,
    ) -> None:
        super().__init__()
        if not filters or min(filters) < 1:
            raise ValueError(f"filters must be at least one positive number, found {list(filters)}")
        style = (normalization, activation)
        levels = list(pairwise(filters))
        deepest = filters[-1]
        self.input_block = DoubleConv(in_channels, filters[0], *style)
        self.downsample = nn.ModuleList(DoubleConv(i, o, *style, stride=2) for i, o in levels)
        self.bottleneck = DoubleConv(deepest, deepest, *style, stride=2)
        self.upsample = nn.ModuleList(
            [UpsampleBlock(deepest, deepest, *style)]
            + [UpsampleBlock(o, i, *style) for i, o in reversed(levels)]
        )
        self.output = OutputLayer(filters[0], n_class)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N x n_class x D x H x W) of an image (N x in_channels x D x H x W)."""
        x = self.input_block(x)
        skips = [x]
        for downsample in self.downsample:
            x = downsample(x)
            skips.append(x)
        x = self.bottleneck(x)
        for upsample in self.upsample:
            x = upsample(x, skips.pop())
        return self.output(x)
