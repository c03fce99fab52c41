"""The blocks U-Net3D is assembled from.

Module names follow the MLPerf reference (``model/layers.py`` there), so that ``state_dict`` keys and the
order of parameters are the same and its checkpoints load.
"""

import torch
from torch import Tensor, nn


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
            return nn.LeakyReLU(0.01)
        case "none":
            return nn.Identity()
    raise ValueError(f"activation must be relu, leaky_relu or none, found {name!r}")


def conv_block(
    in_channels: int, out_channels: int, normalization: str, activation: str, stride: int = 1
) -> nn.Sequential:
    """A 3x3x3 convolution, its norm and its activation; the convolution has a bias only without a norm."""
    conv = nn.Conv3d(
        in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=normalization == "none"
    )
    return nn.Sequential(conv, normalization_layer(normalization, out_channels), activation_layer(activation))


class DoubleConv(nn.Module):
    """Two conv blocks; the first may change the number of channels and, by ``stride``, halve D, H and W."""

    def __init__(
        self, in_channels: int, out_channels: int, normalization: str, activation: str, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = conv_block(in_channels, out_channels, normalization, activation, stride)
        self.conv2 = conv_block(out_channels, out_channels, normalization, activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class UpsampleBlock(nn.Module):
    """Double D, H and W by a transposed convolution, join the skip connection, convolve twice."""

    def __init__(self, in_channels: int, out_channels: int, normalization: str, activation: str) -> None:
        super().__init__()
        # A Sequential of one, because the reference's keys read `upsample_conv.0.weight`.
        self.upsample_conv = nn.Sequential(
            nn.ConvTranspose3d(in_channels, out_channels, kernel_size=2, stride=2)
        )
        self.conv1 = conv_block(2 * out_channels, out_channels, normalization, activation)
        self.conv2 = conv_block(out_channels, out_channels, normalization, activation)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = torch.cat((self.upsample_conv(x), skip), dim=1)
        return self.conv2(self.conv1(x))


class OutputLayer(nn.Module):
    """The 1x1x1 convolution from features to class logits."""

    def __init__(self, in_channels: int, n_class: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, n_class, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)
