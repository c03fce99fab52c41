"""The blocks U-Net3D is assembled from.

Module names follow the MLPerf reference (``model/layers.py`` there), so that ``state_dict`` keys and the
order of parameters are the same and its checkpoints load, whatever `Ops` computes them.
"""

import torch
from torch import Tensor, nn

from model.convolutions import Conv3d, ConvTranspose3d, HeadConv3d, StemConv3d
from model.fused_norm import NEGATIVE_SLOPES, FusedInstanceNorm
from model.ops import Ops
from model.ops.up_join import up_join


def normalization_layer(name: str, channels: int) -> nn.Module:
    """``instancenorm`` (affine, eps 1e-5), ``batchnorm``, ``syncbatchnorm`` or ``none`` for C channels."""
    match name:
        case "instancenorm":
            return nn.InstanceNorm3d(channels, affine=True)
        case "batchnorm":
            return nn.BatchNorm3d(channels)
        case "syncbatchnorm":
            return nn.SyncBatchNorm(channels)
        case "none":
            return nn.Identity()
    raise ValueError(f"normalization must be instancenorm, batchnorm, syncbatchnorm or none, found {name!r}")


def activation_layer(name: str) -> nn.Module:
    """``relu``, ``leaky_relu`` (slope 0.01) or ``none``."""
    match name:
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return nn.LeakyReLU(NEGATIVE_SLOPES["leaky_relu"])
        case "none":
            return nn.Identity()
    raise ValueError(f"activation must be relu, leaky_relu or none, found {name!r}")


def conv_block(
    in_channels: int,
    out_channels: int,
    normalization: str,
    activation: str,
    ops: Ops,
    stride: int = 1,
    stem: bool = False,
) -> nn.Sequential:
    """A 3x3x3 convolution, its norm and its activation; the convolution has a bias only without a norm."""
    conv: nn.Module
    if stem and ops.stem != "native":
        conv = StemConv3d(out_channels, ops.stem)
    else:
        bias = normalization == "none"
        conv = Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=bias)
    activate = activation_layer(activation)
    if ops.norm == "native":
        return nn.Sequential(conv, normalization_layer(normalization, out_channels), activate)
    if normalization != "instancenorm":
        raise ValueError(f"only instancenorm is fused, found {normalization!r}")
    norm = FusedInstanceNorm(out_channels, NEGATIVE_SLOPES[activation], ops.norm)
    return nn.Sequential(conv, norm, nn.Identity())


class DoubleConv(nn.Module):
    """Two conv blocks; the first may change the number of channels and, by ``stride``, halve D, H and W."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        normalization: str,
        activation: str,
        ops: Ops,
        stride: int = 1,
        stem: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = conv_block(in_channels, out_channels, normalization, activation, ops, stride, stem)
        self.conv2 = conv_block(out_channels, out_channels, normalization, activation, ops)
        self._joins = ops.join != "native"

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))

    def with_skip(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and what the `UpsampleBlock` of this level takes as its skip connection.

        That is the output itself or, where join is fused, the decoder's concat buffer (twice the channels)
        with the output in its second half.
        """
        if not self._joins:
            y = self(x)
            return y, y
        conv, norm, _ = self.conv2
        assert isinstance(norm, FusedInstanceNorm)
        return norm.joined(conv(self.conv1(x)))


class UpsampleBlock(nn.Module):
    """Double D, H and W by a transposed convolution, join the skip connection, convolve twice."""

    def __init__(
        self, in_channels: int, out_channels: int, normalization: str, activation: str, ops: Ops
    ) -> None:
        super().__init__()
        # A Sequential of one, because the reference's keys read `upsample_conv.0.weight`.
        # A fused join rounds the float32 weights as it reads them: it has no use for shadows.
        kind = ConvTranspose3d if ops.join == "native" else nn.ConvTranspose3d
        self.upsample_conv = nn.Sequential(kind(in_channels, out_channels, kernel_size=2, stride=2))
        self.conv1 = conv_block(2 * out_channels, out_channels, normalization, activation, ops)
        self.conv2 = conv_block(out_channels, out_channels, normalization, activation, ops)
        self._backend = ops.join

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        if self._backend == "native":
            x = torch.cat((self.upsample_conv(x), skip), dim=1)
        else:
            (upsample,) = self.upsample_conv
            assert isinstance(upsample, nn.ConvTranspose3d)
            assert upsample.bias is not None
            x = up_join(x, upsample.weight, upsample.bias, skip, backend=self._backend)
        return self.conv2(self.conv1(x))


class OutputLayer(nn.Module):
    """The 1x1x1 convolution from features to class logits."""

    def __init__(self, in_channels: int, n_class: int, ops: Ops) -> None:
        super().__init__()
        self.conv: nn.Module
        if ops.head == "native":
            self.conv = Conv3d(in_channels, n_class, kernel_size=1)
        else:
            self.conv = HeadConv3d(in_channels, n_class, ops.head)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
