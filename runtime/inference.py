"""Sliding-window inference with the MLPerf reference's crop, pad and blending rules, and evaluation by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from model.losses import DiceScore
from pipelines.base import EvalLoader
from runtime.distributed_utils import World, broadcast_buffers, gather, unwrapped
from runtime.precision import Precision

PADDING_VALUE = -2.2
"""What the reference pads volumes with, in normalised units: near the clipped air, (-79 - 101) / 76.9."""


def crop_margins(size: int, stride: int, window: int) -> tuple[int, int]:
    """Voxels cut from both ends of an axis: an excess below half a stride is dropped, not padded.

    For strides that divide the window this is the reference's rule, ``size % stride``; others leave it
    with voxels that no window covers. An axis shorter than the window, where the reference fails, is kept.
    """
    excess = (size - window) % stride if size > window else 0
    if excess >= stride // 2:
        excess = 0
    return excess // 2, excess - excess // 2


def pad_margins(size: int, stride: int, window: int) -> tuple[int, int]:
    """Voxels added to both ends of a cropped axis: up to where the last window ends."""
    missing = window - size if size < window else (window - size) % stride
    return missing // 2, missing - missing // 2


@lru_cache(maxsize=4)
def _importance(shape: tuple[int, int, int], mode: str) -> Tensor:
    """float32 weights of a window, D x H x W, largest 1.

    ``gaussian`` is the reference's: the cube root of a separable Gaussian of sigma 0.125 x size, which
    widens it to an effective sigma of sqrt(3) x 0.125 x size. The reference builds a cube from the first
    edge; for the cubes MLPerf prescribes this is the same.
    """
    if mode == "constant":
        return torch.ones(shape)
    axes = []
    for size in shape:
        offset = np.arange(size) - (size - 1) / 2
        axes.append(np.exp(-0.5 * (offset / (0.125 * size)) ** 2))
    weights = np.cbrt(np.einsum("i,j,k->ijk", *axes))
    return torch.from_numpy(weights / weights.max()).float()


@dataclass(frozen=True)
class WindowPlan:
    """Which part of a volume the windows cover, with what around it, and where they begin."""

    kept: tuple[slice, ...]
    """What of the volume is left after the crop, D, H, W."""
    padding: tuple[tuple[int, int], ...]
    """Voxels added before and after what is kept."""
    starts: tuple[tuple[int, ...], ...]
    """First corners in the padded volume, in the order they are visited."""

    @classmethod
    def of(cls, shape: Sequence[int], roi_shape: Sequence[int], overlap: float) -> "WindowPlan":
        """The plan for a volume of ``shape`` and windows of ``roi_shape``, both D x H x W.

        Raises:
            ValueError: ``overlap`` is not in [0, 1) or leaves no stride.
        """
        strides = [int(window * (1 - overlap)) for window in roi_shape]
        if not 0 <= overlap < 1 or min(strides) < 1:
            raise ValueError(f"overlap must be in [0, 1) and leave a stride of a voxel, found {overlap}")
        kept, padding, starts = [], [], []
        for size, stride, window in zip(shape, strides, roi_shape, strict=True):
            low, high = crop_margins(size, stride, window)
            cropped = size - low - high
            pad = pad_margins(cropped, stride, window)
            kept.append(slice(low, size - high))
            padding.append(pad)
            starts.append(range(0, cropped + sum(pad) - window + 1, stride))
        return cls(tuple(kept), tuple(padding), tuple(product(*starts)))


def count_windows(shape: Sequence[int], roi_shape: Sequence[int], overlap: float) -> int:
    """How many windows `sliding_window_inference` runs on a volume of shape D x H x W."""
    return len(WindowPlan.of(shape, roi_shape, overlap).starts)


def sliding_window_inference(
    inputs: Tensor,
    labels: Tensor,
    roi_shape: Sequence[int],
    model: Callable[[Tensor], Tensor],
    overlap: float = 0.5,
    mode: str = "gaussian",
    padding_val: float = PADDING_VALUE,
) -> tuple[Tensor, Tensor]:
    """Logits of a whole volume, blended from overlapping windows.

    An axis whose remainder modulo the stride is below half a stride is cropped, image and label alike;
    otherwise it is padded with ``padding_val`` and the result cut back. Scores are therefore taken on the
    cropped volume.

    Args:
        inputs: Image, 1 x C x D x H x W.
        labels: Labels, 1 x 1 x D x H x W.
        roi_shape: Window in voxels, D x H x W.
        model: From a window (1 x C x roi_shape) to logits (1 x K x roi_shape).
        overlap: Fraction of a window that the next one covers again, in [0, 1).
        mode: ``gaussian`` or ``constant`` weighting of a window.
        padding_val: Value of voxels added around the volume.

    Returns:
        Logits, 1 x K x D' x H' x W' in float32 (accumulated in float32 under any autocast), and the labels,
        1 x 1 x D' x H' x W', where the primed sizes are those after the crop.

    Raises:
        ValueError: ``mode`` is unknown, ``overlap`` leaves no stride, or the batch is not one volume.
    """
    if mode not in ("gaussian", "constant"):
        raise ValueError(f"mode must be gaussian or constant, found {mode!r}")
    if inputs.shape[0] != 1:
        raise ValueError(f"sliding windows take one volume at a time, found a batch of {inputs.shape[0]}")

    plan = WindowPlan.of(inputs.shape[2:], roi_shape, overlap)
    inputs, labels = inputs[:, :, *plan.kept], labels[:, :, *plan.kept]
    cropped_shape = inputs.shape[2:]
    # F.pad counts axes from the last to the first.
    inputs = F.pad(inputs, [n for pad in reversed(plan.padding) for n in pad], value=padding_val)

    importance = _importance((roi_shape[0], roi_shape[1], roi_shape[2]), mode).to(inputs.device)
    weight_sum = torch.zeros(inputs.shape[2:], dtype=torch.float32, device=inputs.device)
    result = torch.empty(0)
    for start in plan.starts:
        window = [slice(s, s + size) for s, size in zip(start, roi_shape, strict=True)]
        logits = model(inputs[:, :, *window]).float()
        if not result.numel():
            result = logits.new_zeros((1, logits.shape[1], *inputs.shape[2:]))
        result[:, :, *window] += logits * importance
        weight_sum[*window] += importance
    result /= weight_sum
    inside = [slice(low, low + size) for (low, _), size in zip(plan.padding, cropped_shape, strict=True)]
    return result[:, :, *inside], labels


@dataclass(frozen=True)
class EvalResult:
    """Means over all evaluation cases, each of which weighs the same."""

    kidney_dice: float
    tumour_dice: float
    loss: float
    num_cases: int

    @property
    def mean_dice(self) -> float:
        """What MLPerf's quality target is about."""
        return (self.kidney_dice + self.tumour_dice) / 2

    def as_reference_metrics(self) -> dict[str, float]:
        """Under the names that the reference logs and stores in checkpoints."""
        return {
            "L1 dice": self.kidney_dice,
            "L2 dice": self.tumour_dice,
            "mean_dice": self.mean_dice,
            "eval_loss": self.loss,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates a model on the volumes of all ranks."""

    loader: EvalLoader
    loss_fn: nn.Module
    score_fn: DiceScore
    roi_shape: Sequence[int]
    overlap: float
    precision: Precision
    world: World
    verbose: bool = False

    def __call__(self, model: nn.Module) -> EvalResult:
        """Scores of ``model`` on every case, identical on all ranks and for any number of them."""
        # Without the DDP wrapper: ranks run different numbers of windows and must not wait for each other.
        model = unwrapped(model)
        broadcast_buffers(model, self.world)
        was_training = model.training
        model.eval()
        cases = {}
        bar = tqdm(self.loader, desc="evaluation", disable=not (self.verbose and self.world.is_main))
        with torch.inference_mode():
            for case, image, label in bar:
                with self.precision.autocast():
                    logits, label = sliding_window_inference(
                        image, label, self.roi_shape, model, self.overlap
                    )
                    loss = self.loss_fn(logits, label).double().reshape(1)
                    # The last two classes are kidney and tumour with and without the background's score.
                    cases[case] = torch.cat((self.score_fn(logits, label)[-2:].double(), loss))
        model.train(was_training)
        own = {case: numbers.tolist() for case, numbers in cases.items()}
        merged: dict[str, list[float]] = {}
        for part in gather(own, self.world):
            merged |= part
        # Summed in order of case names, so that the result does not depend on who evaluated what.
        numbers = torch.tensor([merged[case] for case in sorted(merged)], dtype=torch.float64)
        kidney, tumour, loss = numbers.mean(dim=0).tolist()
        return EvalResult(kidney, tumour, loss, len(merged))
