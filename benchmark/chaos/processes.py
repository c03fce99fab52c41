"""The processes of a cycle: all that name its folder in their command line or environment."""

import contextlib
import os
import signal
import time
from pathlib import Path

POLL_S = 0.02


def processes_of(folder: Path) -> list[int]:
    """The living processes that were started for ``folder``, whoever their parent is; this one is not.

    A child inherits the environment, so that one which a killed launcher left behind is found as well.
    """
    name = f"{folder}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                # Both are empty for one that has ended and that nobody has reaped yet.
                if name in (entry / "environ").read_bytes() or name in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def command_line(pid: int) -> list[str]:
    """Words of a process's command line; empty where it has ended."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return text.decode(errors="replace").split("\0")[:-1]


def workers_of(pid: int) -> list[int]:
    """Children of a rank that are copies of it: the worker processes of its loader."""
    own = command_line(pid)
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in children.read_text(encoding="ascii").split()]
    return [child for child in sorted(found) if own and command_line(child) == own]


def is_alive(pid: int) -> bool:
    """Whether a process runs or is stopped; one that only nobody has reaped yet does not."""
    return bool(command_line(pid))


def kill(pid: int, signum: int) -> bool:
    """Send a signal; False where the process has ended."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def left_after(folder: Path, patience_s: float) -> list[list[str]]:
    """Command lines of what still lives ``patience_s`` seconds later; it is killed."""
    deadline = time.monotonic() + patience_s
    while (found := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    lines = [command_line(pid) for pid in found]
    end_all(folder)
    return [line for line in lines if line]


def end_all(folder: Path, limit_s: float = 10.0) -> None:
    """Kill all of ``folder``'s processes and wait until they are gone."""
    deadline = time.monotonic() + limit_s
    while (found := processes_of(folder)) and time.monotonic() < deadline:
        for pid in found:
            kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
