"""Sliding-window inference with the MLPerf reference's crop, pad and blending rules, and evaluation by it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from model.losses import DiceScore
from model.ops.accumulate_windows import Backend, accumulate_windows
from pipelines.base import EvalLoader, Volume
from pipelines.windows import WindowPlan
from runtime.distributed_utils import World, broadcast_buffers, gather, unwrapped
from runtime.errors import Stopped
from runtime.precision import Precision
from runtime.window_weights import axis_sums, axis_weights

PADDING_VALUE = -2.2
"""What the reference pads volumes with, in normalised units: near the clipped air, (-79 - 101) / 76.9."""


def _batch(volume: Tensor, starts: Sequence[Sequence[int]], roi_shape: Sequence[int]) -> Tensor:
    """Windows of a volume (1 x C x D x H x W) as B x C x roi_shape, dense and in the volume's memory format.

    One concatenation along the outermost axis in memory. Of a single channel torch reads the format off the
    strides alone, which that of a stack would lose: see `pipelines.slots.with_layout`.
    """
    channels_last = volume.stride(1) == 1
    whole = volume[0].movedim(0, -1) if channels_last else volume[0]
    outer = () if channels_last else (slice(None),)
    boxes = [[slice(s, s + size) for s, size in zip(start, roi_shape, strict=True)] for start in starts]
    windows = torch.cat([whole[*outer, *box] for box in boxes]).unflatten(0, (len(starts), -1))
    return windows.movedim(-1, 1) if channels_last else windows


def sliding_window_inference(
    inputs: Tensor,
    labels: Tensor,
    roi_shape: Sequence[int],
    model: Callable[[Tensor], Tensor],
    overlap: float = 0.5,
    mode: str = "gaussian",
    padding_val: float = PADDING_VALUE,
    batch_size: int = 1,
    backend: Backend = "reference",
) -> tuple[Tensor, Tensor]:
    """Logits of a whole volume, blended from overlapping windows.

    An axis whose remainder modulo the stride is below half a stride is cropped, image and label alike;
    otherwise it is padded with ``padding_val`` and the result cut back. Scores are therefore taken on the
    cropped volume.

    The last batch holds the windows that are left. On a GPU a batch of another size is another shape, for
    which cuDNN looks for algorithms of its own, once; filling it up would cost its windows in every volume.

    Args:
        inputs: Image, 1 x C x D x H x W. The model gets windows in its memory format.
        labels: Labels, 1 x 1 x D x H x W.
        roi_shape: Window in voxels, D x H x W.
        model: From windows (B x C x roi_shape, B at most ``batch_size``) to logits (B x K x roi_shape), each
            window by itself.
        overlap: Fraction of a window that the next one covers again, in [0, 1).
        mode: ``gaussian`` or ``constant`` weighting of a window.
        padding_val: Value of voxels added around the volume.
        batch_size: Windows per call of the model; it changes the result by rounding at most.
        backend: Who adds up the windows: ``reference`` or ``triton``.

    Returns:
        Logits, 1 x K x D' x H' x W' in float32 (accumulated in float32 under any autocast), without a graph,
        and the labels, 1 x 1 x D' x H' x W', where the primed sizes are those after the crop. Both are
        contiguous: what follows (softmax, cross entropy, argmax) reads one class after the other, and
        PyTorch's would copy logits that lie otherwise.

    Raises:
        ValueError: ``mode`` is unknown, ``overlap`` leaves no stride, the batch is not one volume,
            ``batch_size`` is not positive, or ``backend`` is unknown or cannot take the logits.
    """
    if inputs.shape[0] != 1:
        raise ValueError(f"sliding windows take one volume at a time, found a batch of {inputs.shape[0]}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")

    plan = WindowPlan.of(inputs.shape[2:], roi_shape, overlap)
    weights = [axis_weights(size, mode, inputs.device) for size in roi_shape]
    inputs, labels = inputs[:, :, *plan.kept], labels[:, :, *plan.kept]
    shape, before = inputs.shape[2:], [low for low, _ in plan.padding]
    if any(map(any, plan.padding)):
        # F.pad counts axes from the last to the first.
        inputs = F.pad(inputs, [n for pad in reversed(plan.padding) for n in pad], value=padding_val)

    result = torch.empty(0)
    for first in range(0, len(plan.starts), batch_size):
        starts = plan.starts[first : first + batch_size]
        logits = model(_batch(inputs, starts, roi_shape))
        if not result.numel():
            result = logits.new_zeros((1, logits.shape[1], *shape), dtype=torch.float32)
        # Of windows that reach into the padding only what belongs to the volume is added.
        corners = [[s - low for s, low in zip(start, before, strict=True)] for start in starts]
        accumulate_windows(result, logits, corners, *weights, backend=backend)

    sums = [
        axis_sums(weight, starts, sum(pad) + size)[pad[0] : pad[0] + size]
        for weight, starts, pad, size in zip(weights, plan.axis_starts, plan.padding, shape, strict=True)
    ]
    # Two divisions by small maps rather than one by a map of the volume's size.
    result /= (sums[1][:, None] * sums[2]).float()
    result /= sums[0].float()[:, None, None]
    return result, labels.contiguous()


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
    val_batch_size: int = 1
    """Windows per forward pass."""
    backend: Backend = "reference"
    """Who adds up the windows."""
    verbose: bool = False
    asked_to_stop: Callable[[], int] = lambda: 0
    """The signal that asks this process to end, 0 for none; looked at before each batch of windows."""

    def __call__(self, model: nn.Module) -> EvalResult:
        """Scores of ``model`` on every case, identical on all ranks and for any number of them.

        Raises:
            Stopped: A signal asked some rank to end; the evaluation is given up on all.
        """
        # Without the DDP wrapper: ranks run different numbers of windows and must not wait for each other.
        model = unwrapped(model)
        broadcast_buffers(model, self.world)
        was_training = model.training
        model.eval()
        bar = tqdm(self.loader, desc="evaluation", disable=not (self.verbose and self.world.is_main))
        cases: dict[str, Tensor] = {}
        with torch.inference_mode(), suppress(Stopped):
            for volume in bar:
                cases[volume.case] = self.score(partial(self._unless_stopped, model), volume)
        model.train(was_training)
        own = {case: numbers.tolist() for case, numbers in cases.items()}
        merged: dict[str, list[float]] = {}
        for part, signal in gather((own, self.asked_to_stop()), self.world):
            if signal:
                raise Stopped(signal)
            merged |= part
        # Summed in order of case names, so that the result does not depend on who evaluated what.
        numbers = torch.tensor([merged[case] for case in sorted(merged)], dtype=torch.float64)
        kidney, tumour, loss = numbers.mean(dim=0).tolist()
        return EvalResult(kidney, tumour, loss, len(merged))

    def _unless_stopped(self, model: nn.Module, windows: Tensor) -> Tensor:
        if signal := self.asked_to_stop():
            raise Stopped(signal)
        logits: Tensor = model(windows)
        return logits

    def score(self, model: Callable[[Tensor], Tensor], volume: Volume) -> Tensor:
        """Kidney Dice, tumour Dice and loss of one volume, float64 and still on its device.

        The logits, the largest tensor of an evaluation, are gone on return: before the next volume's.
        """
        with self.precision.autocast():
            logits, label = sliding_window_inference(
                *(volume.image, volume.label, self.roi_shape, model, self.overlap),
                batch_size=self.val_batch_size,
                backend=self.backend,
            )
            loss = self.loss_fn(logits, label).double().reshape(1)
            # The last two classes are kidney and tumour with and without the background's score.
            return torch.cat((self.score_fn(logits, label)[-2:].double(), loss))
