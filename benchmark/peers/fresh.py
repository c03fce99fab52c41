"""Runs a task in a fresh process, watched from outside, of which nothing is left afterwards."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT
from benchmark.peers.contender import Settings
from benchmark.process_tree import TreeMemory

SAMPLE_S = 0.05
START_LIMIT_S = 1800.0
"""What a task may take beyond the time that it is to measure for."""
ENDING_LIMIT_S = 10.0
"""What the kernel may take to end processes that were killed."""


class ContenderError(Exception):
    """A contender failed; the message says why, in one line."""


def run(task: str, name: str, settings: Settings, tree: TreeMemory | None = None) -> dict[str, Any]:
    """What ``task``, a key of ``child.TASKS``, returns for contender ``name``; ``tree`` watches it meanwhile.

    Raises:
        ContenderError: the task failed, was killed, or did not end in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "out.json", Path(folder) / "log.txt"
        command = [sys.executable, "-m", "benchmark.peers.child", task, name, settings.to_json(), str(out)]
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
            _wait(process.pid, tree, settings.warmup_s + settings.seconds + START_LIMIT_S)
        finally:
            _end_group(process)
            _remove_shared_memory(known)
        if not out.is_file():
            raise ContenderError(_death(process.returncode, log))
        outcome = json.loads(out.read_text(encoding="utf-8"))
    if "failure" in outcome:
        raise ContenderError(outcome["failure"])
    result: dict[str, Any] = outcome["result"]
    return result


def _shared_memory() -> set[Path]:
    """torch's blocks of shared memory, which have a name until all who use them have opened them."""
    return set(Path("/dev/shm").glob("torch_*"))


def _remove_shared_memory(known: set[Path]) -> None:
    """Remove what a killed contender has left: names carry the number of the process that made them."""
    for path in _shared_memory() - known:
        if not Path("/proc", path.name.split("_")[1]).exists():
            path.unlink(missing_ok=True)


def _wait(pid: int, tree: TreeMemory | None, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    # WNOWAIT keeps the number from being given to another process, until the group is killed by it.
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if tree:
            tree.sample(pid)
        if time.monotonic() > end:
            raise ContenderError(f"did not end within {limit_s:.0f} s")
        time.sleep(SAMPLE_S)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
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


def _death(status: int, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    if status < 0:
        return f"killed by {signal.Signals(-status).name}; the last that it printed: {last}"
    return f"ended with status {status}: {last}"
