"""What a tree of processes holds at a moment."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """Sums over all processes of a run."""

    seconds: float
    """Since the run was started."""
    steps: int
    memory_bytes: int
    """Proportional set sizes: a page that several processes share counts once. Where the kernel does not tell
    them, resident set sizes, in which it counts in each."""
    descriptors: int
    threads: int
    shared_memory_bytes: int
    """Taken in /dev/shm, by files without a name as well."""
    shared_memory_names: int


def take(pids: Sequence[int], shared_memory: Path, seconds: float, steps: int) -> Sample:
    """Look at processes; one that has just ended counts no more."""
    room = os.statvfs(shared_memory)
    return Sample(
        seconds=round(seconds, 1),
        steps=steps,
        memory_bytes=sum(_memory(Path(f"/proc/{pid}")) for pid in pids),
        descriptors=sum(_entries(Path(f"/proc/{pid}/fd")) for pid in pids),
        threads=sum(_entries(Path(f"/proc/{pid}/task")) for pid in pids),
        shared_memory_bytes=(room.f_blocks - room.f_bfree) * room.f_frsize,
        shared_memory_names=_entries(shared_memory),
    )


def _entries(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return len(os.listdir(folder))
    return 0


def _memory(process: Path) -> int:
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(PermissionError, FileNotFoundError, ProcessLookupError):
            for line in (process / name).read_text(encoding="utf-8").splitlines():
                if line.startswith(field):
                    return int(line.split()[1]) * 1024
    return 0
