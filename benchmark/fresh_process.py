"""A command in a fresh process and session, watched from outside, of which nothing is left afterwards."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT

SAMPLE_S = 0.05
ENDING_LIMIT_S = 10.0
"""What the kernel may take to end processes that were killed, and a program to end when it is asked to."""


class ProcessError(Exception):
    """The command failed; the message says why, in one line."""


def run_fresh(
    command: Sequence[str], log: Path, limit_s: float, watch: Callable[[int], None] | None = None
) -> None:
    """Run ``command`` at the repository's root, its output into ``log``; ``watch`` is told its number again
    and again meanwhile.

    Raises:
        ProcessError: it failed, was killed, or did not end in time.
    """
    known = _shared_memory()
    with log.open("w") as output:
        # A session of its own: Ctrl-C is this process's to answer, and it ends the whole group.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process.pid, limit_s, watch)
    finally:
        end_group(process)
        _remove_shared_memory(known)
    if process.returncode:
        raise ProcessError(death(process.returncode, log))


def death(status: int, log: Path) -> str:
    """Why a process ended as it did: how, and the last line that it printed."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    if status == -signal.SIGKILL:
        return f"killed by SIGKILL, most often for lack of memory; the last that it printed: {last}"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}; the last that it printed: {last}"
    return f"ended with status {status}: {last}"


def _shared_memory() -> set[Path]:
    """torch's blocks of shared memory, which have a name until all who use them have opened them."""
    return set(Path("/dev/shm").glob("torch_*"))


def _remove_shared_memory(known: set[Path]) -> None:
    """Remove what a killed process has left: names carry the number of the process that made them."""
    for path in _shared_memory() - known:
        if not Path("/proc", path.name.split("_")[1]).exists():
            path.unlink(missing_ok=True)


def _wait(pid: int, limit_s: float, watch: Callable[[int], None] | None) -> None:
    end = time.monotonic() + limit_s
    # WNOWAIT keeps the number from being given to another process, until the group is killed by it.
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if watch:
            watch(pid)
        if time.monotonic() > end:
            raise ProcessError(f"did not end within {limit_s:.0f} s")
        time.sleep(SAMPLE_S)


def end_group(process: "subprocess.Popen[Any]") -> None:
    """Kill a process that leads a session, and all of its group, and wait until they are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Its workers, which are not ours to wait for, still have files mapped until they are gone.
    end = time.monotonic() + ENDING_LIMIT_S
    while _runs(process.pid) and time.monotonic() < end:
        time.sleep(SAMPLE_S)


def _runs(group: int) -> bool:
    """Whether a process of the group is alive; one that only nobody has reaped yet is not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, of_group = (
                path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
            )
            if int(of_group) == group and state not in "ZX":
                return True
    return False
