"""The training loss and the evaluation score, as the MLPerf reference defines them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.ops import Backend
from model.ops.dice_ce import dice_ce
from model.ops.dice_ce.reference import SMOOTH

_SLAB_VOXELS = 2**24
"""Voxels of a volume that are counted at a time: `torch.argmax` takes 8 bytes for each."""

_LAYOUTS = ("NCDHW", "NDHWC")


def _aligned(prediction: Tensor, label: Tensor, layout: str) -> tuple[Tensor, Tensor]:
    """Prediction as N x C x D x H x W and label as N x 1 x D x H x W, whatever the logical layout."""
    if layout == "NDHWC":
        prediction, label = prediction.movedim(-1, 1), label.movedim(-1, 1)
    if label.shape[1] != 1 or label.shape[2:] != prediction.shape[2:] or len(label) != len(prediction):
        raise ValueError(
            f"labels must have the shape of the prediction with one channel: prediction "
            f"{tuple(prediction.shape)}, label {tuple(label.shape)} (both as NCDHW)"
        )
    return prediction, label


def _channels_first(prediction: Tensor, label: Tensor, layout: str) -> tuple[Tensor, Tensor]:
    """Prediction as N x C x D x H x W and label as N x D x H x W (int64), whatever the logical layout."""
    prediction, label = _aligned(prediction, label, layout)
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
        backend: Who computes it, see `model.ops`.
    """

    def __init__(
        self, include_background: bool = False, layout: str = "NCDHW", backend: Backend = "native"
    ) -> None:
        super().__init__()
        self.include_background = include_background
        self.layout = _check(layout)
        self.backend = backend

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of logits (N x C x D x H x W) against integer labels (N x 1 x D x H x W)."""
        if self.backend != "native":
            if self.layout == "NDHWC":
                logits, label = logits.movedim(-1, 1), label.movedim(-1, 1)
            return dice_ce(logits, label, include_background=self.include_background, backend=self.backend)
        logits, label = _channels_first(logits, label, self.layout)
        if logits.element_size() < 4:
            # A 64^3 patch has more voxels than float16 can count, and autocast on a CPU sums in float16.
            logits = logits.float()
        probability = torch.softmax(logits, dim=1)
        target = _one_hot(label, logits.shape[1], like=probability)
        dice = (1.0 - _dice(probability, target, self.include_background)).mean()
        return (dice + F.cross_entropy(logits, label)) / 2


def _count(logits: Tensor, label: Tensor, first: int) -> Tensor:
    """Voxels of each class from ``first`` on, 2 x N x (K - first) int64: in both the most likely class of the
    logits (N x K x D x H x W) and the label (N x 1 x D x H x W); in the one plus in the other."""
    n_class = logits.shape[1]
    depth = max(1, _SLAB_VOXELS // max(1, logits[:, 0, 0].numel()))
    counts = torch.zeros((2, len(logits), n_class - first), dtype=torch.int64, device=logits.device)
    for part, actual in zip(logits.split(depth, dim=2), label.split(depth, dim=2), strict=True):
        likely = part.argmax(dim=1, keepdim=True)
        for k in range(first, n_class):
            predicted, given = likely == k, actual == k
            counts[0, :, k - first] += (predicted & given).sum((1, 2, 3, 4))
            counts[1, :, k - first] += predicted.sum((1, 2, 3, 4)) + given.sum((1, 2, 3, 4))
    return counts


class DiceScore:
    """Hard Dice of the most likely class, per class and averaged over the batch.

    It is computed from whole numbers of voxels, counted on the logits' device a part of the volume at a time,
    and only then rounded to float32. (The reference adds up ones in float32, which loses some of more than
    2^24: its last digits may differ.)

    Arguments as in `DiceCELoss`.
    """

    def __init__(self, include_background: bool = False, layout: str = "NCDHW") -> None:
        self.include_background = include_background
        self.layout = _check(layout)

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """float32 scores, one per class (kidney, tumour), of logits and labels as in `DiceCELoss`."""
        logits, label = _aligned(logits, label, self.layout)
        common, size = _count(logits, label, first=0 if self.include_background else 1).double()
        return ((2.0 * common + SMOOTH) / (size + SMOOTH)).mean(dim=0).float()
