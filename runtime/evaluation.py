"""When a network is evaluated: in turn with its training, or beside it on ranks of their own."""

from typing import Protocol

from runtime.eval_ranks import Channel
from runtime.inference import Evaluator
from runtime.logging import RunLog
from runtime.state import Snapshot, TrainState
from runtime.verdict import Evaluated, Verdict


class Evaluations(Protocol):
    """What `runtime.training.train` asks for scores."""

    def due(self, state: TrainState, epoch: int, samples: int, train_loss: float, verdict: Verdict) -> None:
        """An evaluation follows ``epoch``; its score goes to ``verdict``, now or later."""

    def poll(self, verdict: Verdict) -> None:
        """Hand on a score that has arrived since; to be called after each step, and costs next to nothing."""

    def finish(self, verdict: Verdict) -> None:
        """Wait for the score that is still to come."""


class InTurn:
    """All ranks evaluate, and training waits."""

    def __init__(self, evaluator: Evaluator, log: RunLog) -> None:
        self._evaluator, self._log = evaluator, log

    def due(self, state: TrainState, epoch: int, samples: int, train_loss: float, verdict: Verdict) -> None:
        """See `Evaluations`."""
        self._log.evaluation_start(epoch, samples)
        result = self._evaluator(state.model)
        self._log.evaluation_stop(epoch, samples, result.mean_dice)
        verdict.take(result, Evaluated(epoch, samples, train_loss, state))

    def poll(self, verdict: Verdict) -> None:
        """See `Evaluations`."""

    def finish(self, verdict: Verdict) -> None:
        """See `Evaluations`."""


class Beside:
    """The evaluation ranks evaluate, one state at a time, while this rank, rank 0 of the others, trains on.

    The log has an evaluation where its score arrived, in the midst of a block. With the score that ends the
    run the clock stops: training goes on to the end of the epoch, where all ranks agree to stop.

    Args:
        channel: To the evaluation ranks.
        log: Of the run.
        keep_states: Whether somebody wants the state that a score is of, a copy in host memory.
    """

    def __init__(self, channel: Channel, log: RunLog, *, keep_states: bool) -> None:
        self._channel, self._log, self._keep_states = channel, log, keep_states
        self._under_way: Evaluated | None = None

    def due(self, state: TrainState, epoch: int, samples: int, train_loss: float, verdict: Verdict) -> None:
        """Send the weights; waits only where the evaluation before it is not over yet."""
        self.finish(verdict)
        if verdict.status:
            return
        self._log.evaluation_start(epoch, samples)
        self._channel.send(state.model)
        states = Snapshot(state) if self._keep_states else state
        self._under_way = Evaluated(epoch, samples, train_loss, states)

    def poll(self, verdict: Verdict) -> None:
        """See `Evaluations`."""
        if self._under_way and self._channel.has_scores():
            self._receive(verdict)

    def finish(self, verdict: Verdict) -> None:
        """See `Evaluations`."""
        if self._under_way:
            self._receive(verdict)

    def _receive(self, verdict: Verdict) -> None:
        assert self._under_way is not None
        result, of = self._channel.scores(), self._under_way
        self._under_way = None
        self._log.evaluation_stop(of.epoch, of.samples, result.mean_dice)
        verdict.take(result, of)
        if verdict.status:
            self._log.run_stop("success" if verdict.status == "reached" else "aborted")


class Elsewhere:
    """For training ranks other than 0 beside evaluation ranks: they learn of scores when an epoch ends."""

    def due(self, state: TrainState, epoch: int, samples: int, train_loss: float, verdict: Verdict) -> None:
        """See `Evaluations`."""

    def poll(self, verdict: Verdict) -> None:
        """See `Evaluations`."""

    def finish(self, verdict: Verdict) -> None:
        """See `Evaluations`."""
