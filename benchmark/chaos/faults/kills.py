"""Processes that are killed or stopped."""

import signal

from benchmark.chaos.faults.base import Fault, MissedError, Scene
from benchmark.chaos.processes import kill, workers_of
from benchmark.chaos.running import Run


def strike_rank(run: Run, rank: int, signum: int) -> str:
    """Send a signal to a rank.

    Raises:
        MissedError: It has ended.
    """
    pid = run.traces()[rank].pid
    if pid is None or run.has_ended() or not kill(pid, signum):
        raise MissedError
    return f"{signal.Signals(signum).name} to rank {rank}"


class KillTrainer(Fault):
    """The out-of-memory killer, or a loss of power."""

    name = "SIGKILL of the trainer"
    ranks = (1,)
    statuses = (-signal.SIGKILL,)

    def strike(self, scene: Scene, run: Run) -> str:
        """Kill the one process that trains."""
        return strike_rank(run, 0, signal.SIGKILL)


class KillWorker(Fault):
    """The out-of-memory killer chose one of the loader's processes."""

    name = "SIGKILL of a worker"
    ranks = (1,)
    loaders = ("pytorch",)
    while_starting = False
    statuses = (1,)
    says = r"a worker was ended from outside \(SIGKILL\)"

    def strike(self, scene: Scene, run: Run) -> str:
        """Kill one of them."""
        workers = [worker for pid in run.pids() for worker in workers_of(pid)]
        if not workers or not kill(chosen := scene.random.choice(workers), signal.SIGKILL):
            raise MissedError
        return f"SIGKILL to worker {workers.index(chosen)} of {len(workers)}"


class KillRank(Fault):
    """A rank of several dies without a word."""

    name = "SIGKILL of one of two ranks"
    ranks = (2,)
    statuses = (-signal.SIGKILL, 1)

    def strike(self, scene: Scene, run: Run) -> str:
        """Kill one of them, the first in half of all cases."""
        self.silent = scene.random.randrange(2)
        self.says = f"rank {self.silent} has ended without a word"
        return strike_rank(run, self.silent, signal.SIGKILL)


class StopRank(Fault):
    """A rank hangs: a driver, a file system that does not answer."""

    name = "SIGSTOP of one of two ranks"
    ranks = (2,)
    timeout_s = 3.0
    flags = ("--rank_timeout", str(timeout_s))
    limit_s = timeout_s + 10
    statuses = (-signal.SIGKILL, 1)

    def strike(self, scene: Scene, run: Run) -> str:
        """Stop one of them, the first in half of all cases."""
        self.silent = scene.random.randrange(2)
        self.says = f"rank {self.silent} has given no sign of life"
        return strike_rank(run, self.silent, signal.SIGSTOP)
