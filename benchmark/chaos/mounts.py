"""A mount namespace of this command's own, in which it may mount without anybody else seeing it.

What is mounted there ends with its last process, by whatever signal that ends. In the place of /dev/shm each
cycle has a small one of its own, which can be filled, and in which every name is the cycle's.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

INSIDE = "--inside_own_mounts"
"""Flag of a command that has entered its namespace."""
_UNSHARE = ("--mount", "--propagation", "private")


def enter(argv: Sequence[str]) -> str:
    """Start this command anew in a mount namespace of its own, with ``argv`` and ``INSIDE``.

    Returns only where that is not permitted: why.
    """
    program = shutil.which("unshare")
    if program is None:
        return "there is no unshare (util-linux) on this machine"
    for user in ((), ("--map-root-user",)):
        # Whether one may mount is known only when it is tried.
        mount = ["sh", "-c", "mount -t tmpfs -o size=1m tmpfs /dev/shm"]
        enter = [program, *user, *_UNSHARE]
        tried = subprocess.run([*enter, *mount], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            sys.stdout.flush()
            os.execv(program, [*enter, sys.executable, "-m", "benchmark", *argv, INSIDE])
    return tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else "unshare --mount failed"


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of ``size`` bytes in memory at the empty ``folder``.

    Raises:
        OSError: It cannot be mounted.
    """
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        # Lazily: a process that has not quite ended must not hold up the campaign.
        _run("umount", "--lazy", str(folder))


def with_shared_memory(command: Sequence[str], folder: Path) -> list[str]:
    """``command`` with ``folder`` in the place of /dev/shm; the process keeps its number."""
    script = 'mount --bind "$0" /dev/shm && exec "$@"'
    return ["unshare", *_UNSHARE, "sh", "-c", script, str(folder), *command]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
