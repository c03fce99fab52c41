"""The plain twin of the kernel: one window, in any floating dtype and memory layout."""

from collections.abc import Sequence

from torch import Tensor


def forward(
    result: Tensor,
    logits: Tensor,
    start: Sequence[int],
    weights_d: Tensor,
    weights_h: Tensor,
    weights_w: Tensor,
) -> None:
    """Add one window (1 x K x d x h x w) to ``result`` (1 x K x D x H x W) from the voxel ``start`` on, both
    cut to what they have in common; see `accumulate_windows`."""
    there, here = [], []
    for first, size, window in zip(start, result.shape[2:], logits.shape[2:], strict=True):
        low, high = max(first, 0), min(first + window, size)
        if low >= high:
            return
        there.append(slice(low, high))
        here.append(slice(low - first, high - first))
    wd, wh, ww = (w[part] for w, part in zip((weights_d, weights_h, weights_w), here, strict=True))
    weight = (wd[:, None, None] * wh[:, None] * ww).to(result.dtype)
    # Explicitly in result's dtype: autocast has a list of its own for addcmul.
    result[:, :, *there].addcmul_(logits[:, :, *here].to(result.dtype), weight)
