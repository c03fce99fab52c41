"""What a run says of data and numbers that went wrong, so that they can be looked at."""

import shlex
import sys
from collections import Counter
from collections.abc import Callable

from pipelines import data_loader
from pipelines.base import BadCase, Shard, TrainLoader
from pipelines.config import LoaderConfig
from runtime.callbacks import Callback
from runtime.distributed_utils import World, gather
from runtime.logging import RunLog

_NAMED = 8
"""Samples of a step that are named; a step of a large run has hundreds."""


class LostNumbers(Callback):
    """Names the step, the cases and the draws where a loss is no number any more."""

    def __init__(self, say: Callable[[str], None], config: LoaderConfig, shard: Shard) -> None:
        self._say, self._config, self._shard = say, config, shard

    def on_lost_loss(self, epoch: int, step: int, loss: float) -> None:
        self._say(
            f"the loss of step {step} of epoch {epoch} is {loss}: by its samples, or by weights that the "
            f"gradient of the step before has spoilt. Its samples: {self._samples(epoch, step)}"
        )

    def on_scale_collapse(self, epoch: int, scale: float) -> None:
        self._say(
            f"the loss scale fell to {scale:g} in epoch {epoch}: gradients overflow float16 at any scale; "
            "lower --learning_rate, or use --amp_dtype bfloat16"
        )

    def _samples(self, epoch: int, step: int) -> str:
        samples = data_loader.samples_of(self._config, self._shard, epoch, step)
        if not samples:
            return "synthetic"
        listed = ", ".join(f"{sample.case} (index {sample.index})" for sample in samples[:_NAMED])
        more = f" and {len(samples) - _NAMED} more" if len(samples) > _NAMED else ""
        ranks = f" --world_size {self._shard.world_size}" if self._shard.world_size > 1 else ""
        return (
            f"{listed}{more}; look at one with python -m benchmark replay {shlex.join(sys.argv[1:])}{ranks} "
            f"--seed {self._config.seed} --epoch {epoch} --index {samples[0].index}"
        )


class BadCases(Callback):
    """Counts the samples that were replaced under ``--on_bad_case skip``; to be called on all ranks."""

    def __init__(self, loader: TrainLoader, world: World, log: RunLog) -> None:
        self._loader, self._world, self._log = loader, world, log
        self.replaced: Counter[str] = Counter()
        """By case."""

    def on_epoch_end(self, epoch: int, train_loss: float) -> None:
        """Say and log the cases that are new among the bad ones."""
        found: list[BadCase] = [
            bad for of_rank in gather(self._loader.bad_cases, self._world) for bad in of_rank
        ]
        for bad in found:
            if bad.case not in self.replaced:
                self._world.say(f"warning: {bad.case} is bad, other samples take its place: {bad.reason}")
                self._log.event("bad_case", bad.case, reason=bad.reason, first_epoch_num=epoch)
            self.replaced[bad.case] = 0
        for bad in found:
            self.replaced[bad.case] += bad.samples

    def say_summary(self) -> None:
        """How many there were, when training has ended."""
        if self.replaced:
            self._world.say(
                f"{self.replaced.total()} samples of {len(self.replaced)} bad cases were replaced"
            )
