"""What this machine gives a program: CPUs and memory, within the limits of its control group."""

import os
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


def _number_after(name: str, path: Path) -> int:
    words = _read_words(path)
    return int(words[words.index(name) + 1]) if name in words else 0


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
