"""The loss and its gradient in plain PyTorch.

With p the softmax of the logits, t the labels one-hot, V the voxels of a sample, M the number of (sample,
class) pairs that Dice counts, e the smoothing term, and I = sum(p t), S = sum(p) + sum(t) + e of such a pair:

    loss = (1/M sum(1 - (2 I + e) / S) + 1/(N V) sum(-log p_label)) / 2
    g = a t + b, the gradient of p;  a = -1 / (M S);  b = (2 I + e) / (2 M S^2);  g = 0 for other classes
    gradient of the logits = p (g - sum(g p over the classes)) + (p - t) / (2 N V)

One class is computed after the other, on views of the logits: the one-hot labels never exist, and neither
does a copy in another layout.
"""

from functools import reduce

import torch
from torch import Tensor

SMOOTH = 1e-6
"""Added to numerator and denominator of Dice, so that a class absent from both scores 1."""

_SPACE = (1, 2, 3)


def _softmax_terms(logits: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """exp(logits - largest) of every class (N x D x H x W each), their sum, and the largest logit."""
    planes = logits.unbind(1)
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    largest = reduce(torch.maximum, planes).to(wide)
    exponentials = [(plane - largest).exp_() for plane in planes]
    return exponentials, reduce(torch.add, exponentials), largest


def _is_class(label: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """1 where the label is ``k``, else 0 (N x D x H x W): no bool, which a CPU is slow to multiply by."""
    return label[:, 0].to(dtype).eq_(k)


def _check_range(label: Tensor, n_class: int) -> None:
    """Raise IndexError, as PyTorch's cross entropy does, on a CPU; elsewhere the indexing itself fails."""
    if label.device.type == "cpu":
        low, high = label.aminmax()
        if low < 0 or high >= n_class:
            raise IndexError(f"labels must lie in 0..{n_class - 1}, found {int(low)}..{int(high)}")


def forward(logits: Tensor, label: Tensor, include_background: bool) -> tuple[Tensor, Tensor]:
    """The loss (scalar), and a and b of the formulas above (2 x N x classes of Dice).

    Both are float32, or float64 for float64 logits. Raises IndexError for a label outside 0 .. K-1.
    """
    n_class = logits.shape[1]
    _check_range(label, n_class)
    exponentials, total, largest = _softmax_terms(logits)
    chosen = logits.gather(1, label.long()).squeeze(1) - largest
    cross_entropy = (total.log() - chosen).mean()
    likelihood = chosen.exp_().div_(total)
    overlaps, sizes = [], []
    for k in range(0 if include_background else 1, n_class):
        hit = _is_class(label, k, total.dtype)
        sizes.append(exponentials[k].div_(total).sum(_SPACE) + hit.sum(_SPACE))
        overlaps.append(hit.mul_(likelihood).sum(_SPACE))
    numerator = 2.0 * torch.stack(overlaps, dim=1) + SMOOTH
    denominator = torch.stack(sizes, dim=1) + SMOOTH
    a = -1.0 / (denominator.numel() * denominator)
    b = numerator / (2.0 * denominator.numel() * denominator.square())
    loss = ((1.0 - numerator / denominator).mean() + cross_entropy) / 2
    return loss, torch.stack((a, b))


def backward(grad: Tensor, logits: Tensor, label: Tensor, coefficients: Tensor) -> Tensor:
    """Gradient of the logits (their dtype and layout) from the loss's, and `forward`'s a and b."""
    exponentials, total, _ = _softmax_terms(logits)
    probabilities = [term.div_(total) for term in exponentials]
    a, b = coefficients[..., None, None, None].unbind()
    first = logits.shape[1] - a.shape[1]
    mean = torch.zeros_like(total)
    for k, probability in enumerate(probabilities[first:]):
        slope = _is_class(label, first + k, total.dtype).mul_(a[:, k]).add_(b[:, k])
        mean.addcmul_(slope, probability)
    weight = 1 / (2 * total.numel())
    result = torch.empty_like(logits)
    for k, probability in enumerate(probabilities):
        hit = _is_class(label, k, total.dtype)
        slope = weight - mean
        if k >= first:
            slope.addcmul_(hit, a[:, k - first]).add_(b[:, k - first])
        probability.mul_(slope).sub_(hit, alpha=weight)
        torch.mul(probability, grad, out=result[:, k])
    return result
