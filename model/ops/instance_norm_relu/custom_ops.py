"""The kernels as operators of PyTorch: seen by dispatch modes, kept by ``torch.compile``, and known by
their shapes on the meta device, where Triton need not be installed.
"""

from types import ModuleType

import torch
from torch import Tensor

from model.ops import why_no_triton

LAUNCHES = {
    "voxelrate::instance_norm_relu": 3,
    "voxelrate::instance_norm_relu_joined": 3,
    "voxelrate::instance_norm_relu_normalize": 1,
    "voxelrate::instance_norm_relu_backward": 3,
}
"""Kernels that each operator launches."""


def _kernels(device: torch.device) -> ModuleType:
    """The launchers. Imported at first use, because they need Triton."""
    if reason := why_no_triton(device):
        raise ValueError(f"backend triton cannot run on {device}: {reason}")
    from model.ops.instance_norm_relu import launch

    return launch


def _like(x: Tensor, channels: int) -> Tensor:
    """Unwritten, as x but of so many channels, ``channels_last_3d``."""
    shape = (x.shape[0], channels, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.empty(x.shape[:2], dtype=torch.float32, device=x.device)
    return mean, torch.empty_like(mean)


@torch.library.custom_op("voxelrate::instance_norm_relu", mutates_args=())
def instance_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """y, mean and rstd."""
    y = _like(x, x.shape[1])
    mean, rstd = _kernels(x.device).forward(x, weight, bias, eps, negative_slope, y)
    return y, mean, rstd


@instance_norm_relu.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(x, x.shape[1]), *_statistics(x)


@torch.library.custom_op("voxelrate::instance_norm_relu_joined", mutates_args=())
def instance_norm_relu_joined(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, a tensor of twice its channels with y in the second half and nothing in the first, mean and rstd."""
    channels = x.shape[1]
    y, joined = _like(x, channels), _like(x, 2 * channels)
    mean, rstd = _kernels(x.device).forward(x, weight, bias, eps, negative_slope, y, joined[:, channels:])
    return y, joined, mean, rstd


@instance_norm_relu_joined.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, negative_slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _like(x, x.shape[1]), _like(x, 2 * x.shape[1]), *_statistics(x)


@torch.library.custom_op("voxelrate::instance_norm_relu_normalize", mutates_args=())
def normalize(
    x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, negative_slope: float
) -> Tensor:
    """y from statistics of before."""
    y = _like(x, x.shape[1])
    _kernels(x.device).normalize(x, mean, rstd, weight, bias, negative_slope, y)
    return y


@normalize.register_fake
def _(x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, negative_slope: float) -> Tensor:
    return _like(x, x.shape[1])


@torch.library.custom_op("voxelrate::instance_norm_relu_backward", mutates_args=())
def backward(
    dy: Tensor | None,
    dskip: Tensor | None,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, weight and bias from those of y and of its copy, None for zero."""
    dx = _like(x, x.shape[1])
    given = (dy, dskip, x, mean, rstd, weight, bias, negative_slope)
    dweight, dbias = _kernels(x.device).backward(*given, dx)
    return dx, dweight, dbias


@backward.register_fake
def _(
    dy: Tensor | None,
    dskip: Tensor | None,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(x, x.shape[1]), torch.empty_like(weight), torch.empty_like(bias)
