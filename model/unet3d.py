"""U-Net3D of the MLPerf Training benchmark (v0.5 to v4.0)."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise

from torch import Tensor, nn

from model.fused_norm import FusedInstanceNorm, recomputed_norms
from model.layers import DoubleConv, OutputLayer, UpsampleBlock
from model.ops import NATIVE, Ops

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
        ops: What is computed by fused operations.
        recompute_norm: Whether the backward pass rebuilds what the fused norms computed, see
            `recomputed_norms`; half of the activations' memory, and one more pass over them.

    Raises:
        ValueError: An unknown normalization or activation, filters that are empty or not positive, or a
            fused operation where there is none: of another norm, or a stem of several channels.
    """

    def __init__(
        self,
        in_channels: int,
        n_class: int,
        normalization: str = "instancenorm",
        activation: str = "relu",
        filters: Sequence[int] = MLPERF_FILTERS,
        ops: Ops = NATIVE,
        recompute_norm: bool = False,
    ) -> None:
        super().__init__()
        if not filters or min(filters) < 1:
            raise ValueError(f"filters must be at least one positive number, found {list(filters)}")
        if recompute_norm and ops.norm == "native":
            raise ValueError("recompute_norm rebuilds what fused norms computed: fuse norm")
        if ops.stem != "native" and (in_channels, normalization) != (1, "instancenorm"):
            raise ValueError("the fused stem has one input channel and no bias")
        self._recompute_norm = recompute_norm
        style = (normalization, activation, ops)
        levels = list(pairwise(filters))
        deepest = filters[-1]
        self.input_block = DoubleConv(in_channels, filters[0], *style, stem=True)
        self.downsample = nn.ModuleList(DoubleConv(i, o, *style, stride=2) for i, o in levels)
        self.bottleneck = DoubleConv(deepest, deepest, *style, stride=2)
        self.upsample = nn.ModuleList(
            [UpsampleBlock(deepest, deepest, *style)]
            + [UpsampleBlock(o, i, *style) for i, o in reversed(levels)]
        )
        self.output = OutputLayer(filters[0], n_class, ops)
        for module in self.modules():
            if isinstance(module, FusedInstanceNorm):
                module.leaves_recipe = recompute_norm

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N x n_class x D x H x W) of an image (N x in_channels x D x H x W)."""
        with recomputed_norms() if self._recompute_norm else nullcontext():
            return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        x, skip = self.input_block.with_skip(x)
        skips = [skip]
        for downsample in self.downsample:
            x, skip = downsample.with_skip(x)  # type: ignore[operator]
            skips.append(skip)
        x = self.bottleneck(x)
        for upsample in self.upsample:
            x = upsample(x, skips.pop())
        return self.output(x)
