"""The plain twin of the kernels: V = N * D * H * W rows of Ci channels times a Ci x K matrix.

Every floating dtype and memory layout; float16 and bfloat16 are computed in float32.
"""

import torch
from torch import Tensor

from model.ops.autocast import without_autocast


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded to a dtype, in that of the arithmetic."""
    return tensor.to(dtype).to(torch.float32 if dtype.itemsize < 4 else dtype)


def _rows(x: Tensor) -> Tensor:
    """N x C x D x H x W as V x C, in the dtype of the arithmetic."""
    return _rounded(x, x.dtype).movedim(1, -1).flatten(0, 3)


def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The logits in x's dtype and channels_last_3d; shapes as in `head_conv`."""
    n, _, d, h, w = x.shape
    with without_autocast(x.device):
        rows = _rows(x) @ _rounded(weight, x.dtype).flatten(1).T
    rows = rows + _rounded(bias, x.dtype)
    return rows.to(x.dtype).view(n, d, h, w, len(bias)).movedim(-1, 1)


def backward(
    dlogits: Tensor, x: Tensor, weight: Tensor, bias_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias from that of the logits."""
    n, ci, d, h, w = x.shape
    grad = _rows(dlogits)
    with without_autocast(x.device):
        rows = grad @ _rounded(weight, x.dtype).flatten(1)
        matrix = grad.T @ _rows(x)
    dx = torch.empty_like(x).copy_(rows.view(n, d, h, w, ci).movedim(-1, 1))
    dweight = torch.empty_like(weight).copy_(matrix.view_as(weight))
    return dx, dweight, grad.sum(0).to(bias_dtype)
