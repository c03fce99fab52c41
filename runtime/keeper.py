"""Between two steps: whether a checkpoint is due, and whether a signal asks to stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from runtime.callbacks import CheckpointCallback
from runtime.consensus import Consensus
from runtime.distributed_utils import World, gather
from runtime.errors import Stopped
from runtime.schedule import SaveEvery
from runtime.signals import Signals
from runtime.state import TrainState


@dataclass(frozen=True)
class Place:
    """``step`` steps of ``epoch`` are done; ``losses`` are these, float32 scalars on the device."""

    epoch: int
    step: int
    steps_per_epoch: int
    losses: list[Tensor]

    @property
    def ends_epoch(self) -> bool:
        """Whether no step of the epoch is left."""
        return self.step == self.steps_per_epoch


class Keeper:
    """Looks after every step whether to save and whether to stop; all training ranks do so alike.

    Args:
        world: The training ranks.
        signals: Of this process.
        saves: Whether the run keeps checkpoints at all.
        saving: Takes them, on rank 0.
        every: When they are due.
    """

    def __init__(
        self,
        world: World,
        signals: Signals,
        *,
        saves: bool = False,
        saving: CheckpointCallback | None = None,
        every: SaveEvery = SaveEvery(),  # noqa: B008 - it is frozen
    ) -> None:
        self._world, self._signals, self._saves, self._saving = world, signals, saves, saving
        self._every = every
        self._consensus = Consensus(world)
        self._unsaved = 0
        self._saved_at = time.monotonic()
        self._asked = False

    def after_step(self, place: Place, state: TrainState, settle: Callable[[], None]) -> None:
        """Save, stop, or do nothing.

        Args:
            place: Of training.
            state: To save.
            settle: Waits until no evaluation is under way: what is saved must not lack its score.

        Raises:
            Stopped: A signal asked for it; what was done is saved.
        """
        self._unsaved += 1
        asks = self._is_time() and not self._asked
        self._asked = self._asked or asks
        time_to_save, signal = self._consensus.exchange(asks, self._signals.received)
        due = time_to_save or (self._every.steps and self._unsaved >= self._every.steps)
        due = due or (self._every.epochs and place.ends_epoch and (place.epoch % self._every.epochs == 0))
        if signal:
            self.stop(place, state, settle, signal)
        if due:
            settle()
            self._save(place, state)

    def stop(self, place: Place, state: TrainState, settle: Callable[[], None], signal: int) -> None:
        """Save and stop; to be called on all training ranks.

        Raises:
            Stopped: Always.
        """
        self._signals.received = self._signals.received or signal
        self.close()
        settle()
        self._save(place, state)
        if self._saving:
            self._saving.say_saved()
        raise Stopped(signal)

    def close(self) -> None:
        """Nothing more is asked; to be called on all training ranks."""
        self._consensus.close()

    def _is_time(self) -> bool:
        # One rank's clock decides.
        minutes = self._every.minutes
        if minutes is None or not self._world.is_main:
            return False
        return time.monotonic() - self._saved_at >= 60 * minutes

    def _save(self, place: Place, state: TrainState) -> None:
        if not self._saves:
            return
        losses = gather([loss.item() for loss in place.losses], self._world)
        if self._saving:
            self._saving.save(place.epoch - 1, state, place.step, losses)
        self._unsaved, self._saved_at, self._asked = 0, time.monotonic(), False
