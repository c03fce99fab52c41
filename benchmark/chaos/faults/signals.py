"""Signals that ask a run to end."""

import signal
import time

from benchmark.chaos.faults.base import Fault, MissedError, Scene
from benchmark.chaos.faults.kills import strike_rank
from benchmark.chaos.running import Run

ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Signal(Fault):
    """One signal, to all ranks, as a scheduler sends it to a job."""

    loses_nothing = True

    def __init__(self, signum: int, why: str) -> None:
        self.signum = signum
        self.name = f"{signal.Signals(signum).name} ({why})"
        self.statuses = (128 + signum,)

    def strike(self, scene: Scene, run: Run) -> str:
        """Send it."""
        return ", ".join(strike_rank(run, rank, self.signum) for rank in range(scene.configuration.ranks))


class TwoSignals(Fault):
    """Somebody loses patience."""

    name = "two signals in a row"
    ranks = (1,)
    # Below zero: the second met an interpreter that was being taken down and no longer handles signals.
    statuses = tuple(status for signum in ASKING for status in (128 + signum, -signum))
    limit_s = 10.0

    def strike(self, scene: Scene, run: Run) -> str:
        """Two of them, up to a second apart; the run may have ended by the first."""
        first, second = (scene.random.choice(ASKING) for _ in range(2))
        gap_s = scene.random.uniform(0.0, 1.0)
        strike_rank(run, 0, first)
        time.sleep(gap_s)
        try:
            strike_rank(run, 0, second)
        except MissedError:
            return f"{first.name}, which was enough"
        return f"{first.name} and, {1000 * gap_s:.0f} ms later, {second.name}"
