"""A run of a configuration in a session of its own, watched from outside."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.chaos.configurations import Configuration
from benchmark.chaos.mounts import with_shared_memory
from benchmark.chaos.processes import POLL_S, end_all
from benchmark.chaos.traces import Trace, read_trace
from benchmark.environment import ROOT

_FAILED = re.compile(r"rank\s*: (\d+) \(local_rank: \d+\)\s+exitcode\s*: (-?\d+)")
"""In torchrun's report."""


class Interrupted(Exception):  # noqa: N818 - it was asked for
    """The campaign shall end."""


class Run:
    """A started run.

    Args:
        configuration: Of the run.
        folder: Of the cycle; what is printed goes to ``PART.out`` and ``PART.err`` in it.
        part: Name of the run among those of the cycle.
        command: What to run.
        shared_memory: Takes the place of /dev/shm; None: the machine's.
        interrupted: Set when all shall end.
    """

    def __init__(
        self,
        configuration: Configuration,
        folder: Path,
        part: str,
        command: Sequence[str],
        shared_memory: Path | None,
        interrupted: threading.Event,
    ) -> None:
        self.configuration, self.folder, self._part = configuration, folder, part
        self._interrupted = interrupted
        temporary = folder / "tmp"
        temporary.mkdir(exist_ok=True)
        words = with_shared_memory(command, shared_memory) if shared_memory else list(command)
        with (folder / f"{part}.out").open("wb") as out, (folder / f"{part}.err").open("wb") as err:
            self.process = subprocess.Popen(
                words,
                cwd=ROOT,
                # By TMPDIR, all descendants name the folder, and leave nothing outside of it.
                env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def traces(self) -> list[Trace]:
        """Each rank's, as they are now."""
        path = self.folder / f"{self._part}.trace"
        return [read_trace(Path(f"{path}.{rank}")) for rank in range(self.configuration.ranks)]

    def pids(self) -> list[int]:
        """The processes of the ranks, as far as they have begun."""
        return [trace.pid for trace in self.traces() if trace.pid is not None]

    def has_ended(self) -> bool:
        """Whether the process that was started is gone.

        Raises:
            Interrupted: All shall end.
        """
        if self._interrupted.is_set():
            raise Interrupted
        return self.process.poll() is not None

    def wait(self, limit_s: float) -> bool:
        """Wait for the end; False where it does not come in time."""
        deadline = time.monotonic() + limit_s
        while not self.has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def end(self) -> None:
        """Kill what is left of it."""
        end_all(self.folder)
        self.process.wait()

    def statuses(self) -> list[int]:
        """Of the one rank, or of those that torchrun names as failed; 0 alone for a run that succeeded."""
        status = self.process.returncode
        if self.configuration.ranks == 1 or status == 0:
            return [status]
        return [int(found) for _, found in _FAILED.findall(_text(self.folder / f"{self._part}.err"))]

    def errors(self) -> list[str]:
        """What each rank wrote to standard error."""
        return self._texts("err", "stderr.log")

    def printed(self) -> str:
        """What all ranks wrote, to either."""
        return "\n".join([*self._texts("out", "stdout.log"), *self.errors()])

    def _texts(self, own: str, of_rank: str) -> list[str]:
        if self.configuration.ranks == 1:
            return [_text(self.folder / f"{self._part}.{own}")]
        of_ranks = self.folder / f"{self._part}.ranks"
        return [_text(path) for path in sorted(of_ranks.glob(f"*/attempt_0/*/{of_rank}"))]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
