"""What this machine gives a program: CPUs and memory, within the limits of its control group; open files."""

import os
import resource
import sys
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """The CPUs this process may use: its affinity, bounded by the quota of its control group (v2)."""
    cpus = len(os.sched_getaffinity(0))
    quota = _read_words(_GROUP / "cpu.max")
    if len(quota) == 2 and quota[0].isdigit():
        cpus = min(cpus, max(1, int(quota[0]) // int(quota[1])))
    return cpus


def available_memory() -> int:
    """Bytes that can be taken without swapping, bounded by the limit of the control group (v2).

    Cached files count as available in both, since the kernel gives them up.
    """
    available = _number_after("MemAvailable:", Path("/proc/meminfo")) * 1024
    limit = _read_words(_GROUP / "memory.max")
    used = _read_words(_GROUP / "memory.current")
    if limit and used and limit[0].isdigit():
        cached = _number_after("inactive_file", _GROUP / "memory.stat")
        available = min(available, max(0, int(limit[0]) - int(used[0]) + cached))
    return available


def open_files() -> int:
    """The files, pipes and sockets that this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # without the folder itself, while it is listed


def allow_open_files(needed: int) -> int:
    """The most files that this process may have open: its soft limit where that is enough, else the hard one,
    to which the soft limit is raised where that is enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _number(soft) >= needed:
        return _number(soft)
    if _number(hard) >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _number(hard)


def _number(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _number_after(name: str, path: Path) -> int:
    words = _read_words(path)
    return int(words[words.index(name) + 1]) if name in words else 0


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
