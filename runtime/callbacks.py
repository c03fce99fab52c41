"""What happens around the training loop: progress, best scores, checkpoints, performance figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runtime.checkpoint_writer import CheckpointWriter
from runtime.clock import StepClock
from runtime.inference import EvalResult
from runtime.state import TrainState, copied_to_host


class States(Protocol):
    """A training state as a checkpoint keeps it."""

    def state_dicts(self, prefix: str) -> dict[str, Any]:
        """See `TrainState.state_dicts`."""


class Callback:
    """Hooks of `runtime.training.train`; each does nothing unless overridden."""

    keeps_states = False
    """Whether `on_evaluation` needs the state that a score is of when training has gone on since."""

    def on_epoch_end(self, epoch: int, train_loss: float) -> None:
        """An epoch's steps are done; ``train_loss`` is their mean over all ranks."""

    def on_lost_loss(self, epoch: int, step: int, loss: float) -> None:
        """Training has diverged: ``step`` of ``epoch`` is the first with a loss that is not finite."""

    def on_scale_collapse(self, epoch: int, scale: float) -> None:
        """Training has diverged: at the end of ``epoch`` the dynamic loss scale is below 1."""

    def on_evaluation(self, epoch: int, result: EvalResult, train_loss: float, state: States) -> None:
        """The evaluation after ``epoch`` is done, of ``state``, and its score is no diverged network's."""

    def on_fit_end(self, epoch: int, state: TrainState) -> None:
        """Training has ended after ``epoch``, by whatever reason."""


class EvaluationCallback(Callback):
    """Says each evaluation's scores and the best so far."""

    def __init__(self, say: Callable[[str], None], best: float = 0.0) -> None:
        self._say = say
        self._best = best

    def on_evaluation(self, epoch: int, result: EvalResult, train_loss: float, state: States) -> None:
        self._best = max(self._best, result.mean_dice)
        self._say(
            f"epoch {epoch}: mean Dice {result.mean_dice:.4f} (kidney {result.kidney_dice:.4f}, tumour "
            f"{result.tumour_dice:.4f}), best {self._best:.4f}, evaluation loss {result.loss:.4f}, training "
            f"loss {train_loss:.4f}"
        )


class CheckpointCallback(Callback):
    """Keeps the latest and the best state (by mean Dice) in one file, written beside training.

    It is written after each evaluation, at the end of training, and whenever `save` is called. Its latest
    state never goes back, as that of an evaluation beside training would.
    Keys are the reference's (``best_model_state_dict``, ``epoch``, ``mean_dice``, ... and ``seed``), with
    ``last_epoch``, the ``last_step`` of the epoch after it (all its steps, where the evaluation that follows
    is not done), their ``last_losses``, the scaler's state and ``stream`` added.

    Args:
        writer: Writes.
        seed: Seed of the run.
        best: The best part of the checkpoint that this run continues, empty for a new run.
        stream: What else decides about the run's samples.
    """

    keeps_states = True

    def __init__(
        self,
        writer: CheckpointWriter,
        seed: int,
        best: dict[str, Any] | None = None,
        *,
        stream: dict[str, str] | None = None,
    ) -> None:
        self._writer = writer
        self._seed = seed
        self._best = best or {}
        self._stream = stream or {}
        self._taken = (0, 0)

    def save(self, epoch: int, state: States, step: int = 0, losses: Sequence[Sequence[float]] = ()) -> None:
        """Save ``state`` as it is ``step`` steps after the end of ``epoch``; ``losses`` are these steps',
        for each rank."""
        last = copied_to_host(state.state_dicts("last"))
        place = {"last_epoch": epoch, "last_step": step, "last_losses": [list(own) for own in losses]}
        self._writer.write(self._best | last | place | {"seed": self._seed, "stream": self._stream})
        self._taken = (epoch, step)

    def say_saved(self) -> None:
        """Wait until what was saved last is written, and say where; a failure is said by the writer."""
        epoch, step = self._taken
        self._writer.say_written(f"epoch {epoch + 1} after its step {step}" if step else f"epoch {epoch}")

    def on_evaluation(self, epoch: int, result: EvalResult, train_loss: float, state: States) -> None:
        if result.mean_dice > self._best.get("mean_dice", 0.0):
            scores = {"epoch": epoch, "train_loss": train_loss, **result.as_reference_metrics()}
            self._best = copied_to_host(state.state_dicts("best")) | scores
        if (epoch, 0) >= self._taken:
            self.save(epoch, state)

    def on_fit_end(self, epoch: int, state: TrainState) -> None:
        if (epoch, 0) != self._taken:
            self.save(epoch, state)
        self._writer.finish()


@dataclass(frozen=True)
class Performance:
    """Steady-state figures of a window of steps or volumes; latencies in milliseconds."""

    items_per_second: float
    """Items over the length of the window, never a mean of rates."""
    num_steps: int
    window_seconds: float
    latency_mean: float
    latency_p50: float
    latency_p90: float
    latency_p95: float
    latency_p99: float

    @classmethod
    def of(cls, clock: StepClock, num_items: int) -> "Performance":
        """From a closed window in which all ranks together handled ``num_items`` items."""
        milliseconds = np.array(clock.step_seconds()) * 1000
        percentiles = (float(p) for p in np.percentile(milliseconds, [50, 90, 95, 99]))
        rate = num_items / clock.window_seconds
        return cls(rate, len(milliseconds), clock.window_seconds, float(milliseconds.mean()), *percentiles)

    def describe(self, step: str) -> str:
        """The latencies of a ``step`` (a word, for the reader) on one line."""
        return (
            f"{step} latency over {self.num_steps} in {self.window_seconds:.1f} s: "
            f"mean {self.latency_mean:.1f}, p50 {self.latency_p50:.1f}, p90 {self.latency_p90:.1f}, "
            f"p95 {self.latency_p95:.1f}, p99 {self.latency_p99:.1f} ms"
        )


class PerformanceCallback:
    """Counts steps; opens the timed window after warm-up and closes it when enough are timed.

    Args:
        clock: Takes the times.
        warmup_steps: Steps that run before the window opens.
        num_steps: Steps that are timed.
    """

    def __init__(self, clock: StepClock, warmup_steps: int, num_steps: int) -> None:
        self._clock = clock
        self._warmup_steps = warmup_steps
        self._num_steps = num_steps
        self._done = 0

    def on_fit_start(self) -> None:
        """The first step is about to run."""
        if self._warmup_steps == 0:
            self._clock.start()

    def on_step(self) -> None:
        """A step has been submitted."""
        self._done += 1
        if self._done > self._warmup_steps:
            self._clock.step()
        if self._done == self._warmup_steps:
            self._clock.start()
        elif self._done == self._warmup_steps + self._num_steps:
            self._clock.stop()

    def cut_short(self) -> bool:
        """Close the window at its last step, if it is still open; False where no step of it is done."""
        timed = self._done - self._warmup_steps
        if timed <= 0:
            return False
        if timed < self._num_steps:
            self._num_steps = timed
            self._clock.stop_at_last_step()
        return True

    def performance(self, items_per_step: int) -> Performance:
        """The figures of the closed window."""
        return Performance.of(self._clock, self._num_steps * items_per_step)
