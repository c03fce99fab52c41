"""The plain twin of the kernels: V = N * D * H * W rows of 27 neighbours times a 27 x Co matrix.

Every floating dtype and memory layout; float16 and bfloat16 are computed in float32. The rows take 27 times
the image's memory.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.ops.autocast import without_autocast


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded to a dtype, in that of the arithmetic."""
    return tensor.to(dtype).to(torch.float32 if dtype.itemsize < 4 else dtype)


def _neighbours(x: Tensor) -> Tensor:
    """N x 1 x D x H x W as V x 27, zeros outside."""
    padded = F.pad(x, (1,) * 6)
    return padded.unfold(2, 3, 1).unfold(3, 3, 1).unfold(4, 3, 1).reshape(-1, 27)


def forward(x: Tensor, weight: Tensor, out_dtype: torch.dtype) -> Tensor:
    """The convolution in ``out_dtype`` and channels_last_3d; shapes as in `stem_conv`."""
    n, _, d, h, w = x.shape
    with without_autocast(x.device):
        rows = _neighbours(_rounded(x, out_dtype)) @ _rounded(weight, out_dtype).flatten(1).T
    return rows.to(out_dtype).view(n, d, h, w, len(weight)).movedim(-1, 1)


def backward(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The weight's gradient from y's; of weight only shape, dtype and strides matter."""
    rows = _rounded(dy, dy.dtype).movedim(1, -1).flatten(0, 3)
    with without_autocast(x.device):
        matrix = rows.T @ _neighbours(_rounded(x, dy.dtype))
    return torch.empty_like(weight).copy_(matrix.view_as(weight))
