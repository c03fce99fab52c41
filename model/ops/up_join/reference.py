"""The plain twin of the kernels: a transposed convolution of kernel 2 and stride 2 is one matrix product,
of V = N * D * H * W rows of Ci channels with a Ci x (8 * Co) matrix, whose columns go to 8 output voxels.

Every floating dtype and memory layout; float16 and bfloat16 are computed in float32.
"""

import torch
from torch import Tensor

from model.ops.autocast import without_autocast


def _arithmetic(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.element_size() < 4 else tensor.dtype


def _rows(x: Tensor) -> Tensor:
    """N x C x D x H x W as V x C."""
    return x.movedim(1, -1).flatten(0, 3)


def _matrix(weight: Tensor, like: Tensor) -> Tensor:
    """Ci x Co x 2 x 2 x 2 as Ci x (8 * Co), rounded to the dtype of ``like``, in that of the arithmetic."""
    return weight.movedim(1, -1).flatten(1).to(like.dtype).to(_arithmetic(like))


def _by_corner(y: Tensor) -> Tensor:
    """A view of N x C x 2D x 2H x 2W as N x C x D x 2 x H x 2 x W x 2."""
    return y.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))


def forward(x: Tensor, weight: Tensor, bias: Tensor, joined: Tensor) -> None:
    """Write the transposed convolution of x into channels 0 to Co of ``joined``; shapes as in `up_join`."""
    n, _, d, h, w = x.shape
    channels = len(bias)
    with without_autocast(x.device):
        product = _rows(x).to(_arithmetic(x)) @ _matrix(weight, x)
    y = product.view(n, d, h, w, 2, 2, 2, channels) + bias.to(x.dtype).to(product.dtype)
    by_corner = _by_corner(joined[:, :channels])
    by_corner.copy_(y.permute(0, 7, 1, 4, 2, 5, 3, 6))


def backward(
    dcat: Tensor, x: Tensor, weight: Tensor, bias_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias from that of the whole buffer, of which channels 0 to Co are read."""
    n, ci, d, h, w = x.shape
    co = weight.shape[1]
    grad = _by_corner(dcat[:, :co]).permute(0, 2, 4, 6, 3, 5, 7, 1)
    columns = grad.reshape(n * d * h * w, 8 * co).to(_arithmetic(x))
    with without_autocast(x.device):
        rows = columns @ _matrix(weight, x).T
        matrix = _rows(x).to(columns.dtype).T @ columns
    dx = torch.empty_like(x).copy_(rows.view(n, d, h, w, ci).movedim(-1, 1))
    dweight = torch.empty_like(weight).copy_(matrix.view(ci, 2, 2, 2, co).movedim(-1, 1))
    return dx, dweight, columns.view(-1, co).sum(0).to(bias_dtype)
