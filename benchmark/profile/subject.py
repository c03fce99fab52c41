"""What is measured: the loader and the step of a run, exactly as training has them, or somebody else's."""

import contextlib
import copy
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmark.anchors import Emulated
from benchmark.profile.foreign import ForeignLoader, ForeignStep
from pipelines import data_loader
from runtime.arguments import RunConfig
from runtime.distributed_utils import World, barrier
from runtime.errors import RunError
from runtime.schedule import LearningRate
from runtime.session import Session
from runtime.state import TrainState
from runtime.training import training_steps

_ENDLESS = 1 << 62
"""Steps of the one epoch that a measurement lasts."""


class Subject:
    """A loader and a step, made when they are first asked for.

    Args:
        config: The run, as ``main.py`` would get it.
        world: This process among the ranks.
        loader: ``package.module:factory`` in the place of ours.
        step: ``package.module:factory`` in the place of ours.
        emulated: A consumer that only takes time, in the place of any step.
    """

    def __init__(
        self,
        config: RunConfig,
        world: World,
        *,
        loader: str | None = None,
        step: str | None = None,
        emulated: Emulated | None = None,
    ) -> None:
        self.session = Session.of(config, world)
        self.config, self.world = self.session.config, world
        self.emulated = emulated
        self._loader, self._step = loader, step

    @property
    def loader_name(self) -> str:
        """``pytorch``, ``dali``, ``synthetic`` or somebody's factory."""
        return self._loader or self.config.loader.loader

    @property
    def step_name(self) -> str:
        """``voxelrate``, ``emulated`` or somebody's factory."""
        return "emulated" if self.emulated else self._step or "voxelrate"

    @property
    def ranks_average(self) -> bool:
        """Whether a step averages gradients over ranks."""
        return self.world.size > 1 and self.step_name == "voxelrate"

    def loader(self) -> Any:
        """A new loader, see ``pipelines.base.TrainLoader``; the caller closes it."""
        session = self.session
        if self._loader is None:
            return data_loader.build(self.config.loader, session.shard, self.world.device)
        ours = self.step_name == "voxelrate"
        return ForeignLoader(
            self._loader, self.config.loader, session.shard, self.world.device, for_our_step=ours
        )

    def together(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches; of emulated consumers, which all step together, each when all ranks have theirs."""
        if not self.emulated or self.world.size == 1:
            return batches
        return _together(batches, self.world)

    def steps(self, batches: Iterator[Any], *, local: bool = False) -> Iterator[Any]:
        """Step without end; ``local`` keeps gradients on this rank."""
        if self.emulated:
            return self._emulated_steps(batches, self.emulated.seconds_per_step)
        if self._step:
            return self._foreign_steps(batches)
        # The rate of learning takes no time, but weights that diverge might: it stays where it starts.
        crawl = LearningRate(base=1e-4, initial=1e-4)
        steps = training_steps(self._state, batches, _ENDLESS, crawl)
        return self._kept_local(steps) if local else steps

    def resident(self, batch: Any) -> Any:
        """A copy of a batch that outlives its loader."""
        if isinstance(batch, torch.Tensor):
            return batch.clone(memory_format=torch.preserve_format)
        if isinstance(batch, dict):
            return {key: self.resident(part) for key, part in batch.items()}
        if isinstance(batch, list | tuple):
            parts = [self.resident(part) for part in batch]
            return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
        return copy.copy(batch)

    @cached_property
    def _state(self) -> TrainState:
        session = self.session
        if session.config.speed.cuda_graph and self.ranks_average:
            raise RunError(
                "--cuda_graph of several ranks is not profiled: the step alone is one without an all-reduce, "
                "which a recorded step cannot leave out; drop it, or profile one rank"
            )
        return session.state(session.model(), some_steps_local=self.ranks_average)

    @cached_property
    def _foreign(self) -> ForeignStep:
        assert self._step
        return ForeignStep(self._step, self.config, self.world.device)

    def _foreign_steps(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            for _ in range(self.config.loader.ga_steps):
                result = self._foreign(next(batches))
            yield result

    def _emulated_steps(self, batches: Iterator[Any], seconds: float) -> Iterator[None]:
        while True:
            for _ in range(self.config.loader.ga_steps):
                next(batches)
            time.sleep(seconds)
            yield None

    def _kept_local(self, steps: Iterator[Any]) -> Iterator[Any]:
        model = self._state.model
        while True:
            with model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext():
                result = next(steps)
            yield result


def _together(batches: Iterator[Any], world: World) -> Iterator[Any]:
    for batch in batches:
        barrier(world)
        yield batch
