"""What scores say about a run: whether it goes on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from runtime.callbacks import Callback, States
from runtime.distributed_utils import World, mean_over_ranks
from runtime.inference import EvalResult
from runtime.schedule import MLPERF_FIRST_EVALUATION

DIVERGED_BELOW = 1e-6
"""A mean Dice below this is a diverged run, as in the reference: see `has_diverged`."""

STATUSES = ("", "reached", "diverged")
"""How a run may end before its last epoch, after that in which it goes on."""


def has_diverged(mean_dice: float, best_dice: float, samples: int) -> bool:
    """Whether a score is a diverged network's: not a number, or (nearly) nothing.

    A network that has not found any foreground yet scores nothing too. It counts as diverged from where
    the reference first looks, MLPerf's first evaluation after 1000 x 168 samples; before that only if it
    has lost what an earlier evaluation found.
    """
    if math.isnan(mean_dice):
        return True
    judged = best_dice >= DIVERGED_BELOW or samples >= MLPERF_FIRST_EVALUATION
    return judged and mean_dice < DIVERGED_BELOW


@dataclass(frozen=True)
class Evaluated:
    """The training state that a score is of."""

    epoch: int
    """After which it was evaluated."""
    samples: int
    """Trained by then."""
    train_loss: float
    """Of the epoch, over all ranks."""
    states: States


@dataclass
class Verdict:
    """Takes scores as they come, in order."""

    quality_threshold: float
    callbacks: Sequence[Callback] = ()
    best_dice: float = 0.0
    result: EvalResult | None = field(default=None, init=False)
    """The latest."""
    status: str = field(default="", init=False)
    """One of ``STATUSES``."""

    def take(self, result: EvalResult, of: Evaluated) -> None:
        """Hand a score to the callbacks, unless it is a diverged network's."""
        self.result = result
        self.best_dice = max(self.best_dice, result.mean_dice)
        if has_diverged(result.mean_dice, self.best_dice, of.samples):
            self.status = "diverged"
            return
        for callback in self.callbacks:
            callback.on_evaluation(of.epoch, result, of.train_loss, of.states)
        if result.mean_dice >= self.quality_threshold:
            self.status = "reached"


def agree(verdict: Verdict, world: World, loss: Tensor | None = None) -> tuple[float, str]:
    """The mean of a float32 scalar over ranks, and the status that rank 0's verdict has, on all ranks.

    One all-reduce, and a wait for the device.
    """
    loss = torch.zeros((), device=world.device) if loss is None else loss
    # A mean, as the loss is one; what other ranks know does not count.
    code = STATUSES.index(verdict.status) * world.size if world.rank == 0 else 0
    mean, agreed = mean_over_ranks(torch.stack((loss, loss.new_tensor(code))), world).tolist()
    return mean, STATUSES[round(agreed)]
