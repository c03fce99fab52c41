"""The training loss and the evaluation score, as the MLPerf reference defines them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMOOTH = 1e-6
"""Added to numerator and denominator of Dice, so that a class absent from both scores 1."""

_LAYOUTS = ("NCDHW", "NDHWC")


def _channels_first(prediction: Tensor, label: Tensor, layout: str) -> tuple[Tensor, Tensor]:
    """Prediction as N x C x D x H x W and label as N x D x H x W (int64), whatever the logical layout."""
    if layout == "NDHWC":
        prediction, label = prediction.movedim(-1, 1), label.movedim(-1, 1)
    if label.shape[1] != 1 or label.shape[2:] != prediction.shape[2:] or len(label) != len(prediction):
        raise ValueError(
            f"labels must have the shape of the prediction with one channel: prediction "
            f"{tuple(prediction.shape)}, label {tuple(label.shape)} (both as NCDHW)"
        )
    return prediction, label.squeeze(1).long()


def _one_hot(label: Tensor, n_class: int, like: Tensor) -> Tensor:
    """N x C x D x H x W in the dtype of ``like``, from integer labels N x D x H x W."""
    classes = torch.arange(n_class, device=label.device).view(1, -1, 1, 1, 1)
    return (label.unsqueeze(1) == classes).to(like.dtype)


def _dice(prediction: Tensor, target: Tensor, include_background: bool) -> Tensor:
    """Dice per sample and class, N x C, of memberships N x C x D x H x W (C less one without background)."""
    if not include_background:
        prediction, target = prediction[:, 1:], target[:, 1:]
    space = (2, 3, 4)
    intersection = (prediction * target).sum(space)
    return (2.0 * intersection + SMOOTH) / (prediction.sum(space) + target.sum(space) + SMOOTH)


def _check(layout: str) -> str:
    if layout not in _LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(_LAYOUTS)}, found {layout!r}")
    return layout


class DiceCELoss(nn.Module):
    """The mean of (1 - soft Dice) and cross entropy.

    Args:
        include_background: Whether class 0 takes part in Dice (never in MLPerf); the cross entropy always
            counts it.
        layout: Order of the axes of both arguments: ``NCDHW`` or ``NDHWC``. A ``channels_last_3d`` tensor
            is logically NCDHW.
    """

    def __init__(self, include_background: bool = False, layout: str = "NCDHW") -> None:
        super().__init__()
        self.include_background = include_background
        self.layout = _check(layout)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of logits (N x C x D x H x W) against integer labels (N x 1 x D x H x W)."""
        logits, label = _channels_first(logits, label, self.layout)
        if logits.element_size() < 4:
            # A 64^3 patch has more voxels than float16 can count, and autocast on a CPU sums in float16.
            logits = logits.float()
        probability = torch.softmax(logits, dim=1)
        target = _one_hot(label, logits.shape[1], like=probability)
        dice = (1.0 - _dice(probability, target, self.include_background)).mean()
        return (dice + F.cross_entropy(logits, label)) / 2


class DiceScore:
    """Hard Dice of the most likely class, per class and averaged over the batch.

    Arguments as in `DiceCELoss`.
    """

    def __init__(self, include_background: bool = False, layout: str = "NCDHW") -> None:
        self.include_background = include_background
        self.layout = _check(layout)

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """float32 scores, one per class (kidney, tumour), of logits and labels as in `DiceCELoss`."""
        logits, label = _channels_first(logits, label, self.layout)
        n_class, like = logits.shape[1], logits.new_empty((), dtype=torch.float32)
        prediction = _one_hot(logits.argmax(dim=1), n_class, like)
        return _dice(prediction, _one_hot(label, n_class, like), self.include_background).mean(dim=0)
