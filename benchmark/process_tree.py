"""The memory and the CPU time of a process and all its descendants, from /proc.

A proportional set size (PSS) counts a page that n processes share as 1/n in each, so that a sum over the tree
counts it once, shared memory included. Pages of mapped files are part of it, though the kernel can take them
back at any time; ``peak_kept`` leaves them out.
"""

import time
from pathlib import Path

_QUIET_TICKS = 1
"""Of CPU time, for all processes together, in `_QUIET_LOOK_S` seconds: as good as idle."""
_QUIET_LOOK_S = 0.2


class TreeMemory:
    """Peaks, in bytes, over all calls of ``sample``."""

    def __init__(self) -> None:
        self._high_water: dict[int, int] = {}
        self.peak_pss = 0
        """The largest sum of PSS."""
        self.peak_kept = 0
        """The largest sum of PSS without pages of files: anonymous and shared memory."""

    def sample(self, root: int) -> None:
        """Look at process ``root`` and its descendants as they are now; one that is gone counts no more."""
        pss = files = 0
        for pid in _members(root):
            sizes = _sizes(Path(f"/proc/{pid}/smaps_rollup"))
            pss += sizes.get("Pss", 0)
            files += sizes.get("Pss_File", 0)
            mark = _sizes(Path(f"/proc/{pid}/status")).get("VmHWM", 0)
            self._high_water[pid] = max(mark, self._high_water.get(pid, 0))
        self.peak_pss = max(self.peak_pss, pss)
        self.peak_kept = max(self.peak_kept, pss - files)

    @property
    def peak_rss(self) -> int:
        """The sum of all processes' own high-water marks: shared pages count in each, peaks need not meet."""
        return sum(self._high_water.values())


def cpu_ticks(root: int) -> int:
    """Ticks (mostly of 10 ms) that process ``root`` and its living descendants have spent on a CPU."""
    ticks = 0
    for pid in _members(root):
        # proc(5): utime and stime are fields 14 and 15; the name, field 2, may hold spaces and brackets.
        fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        ticks += sum(int(value) for value in fields[11:13])
    return ticks


def until_quiet(root: int, limit_s: float = 30.0) -> bool:
    """Wait until a process and its descendants have nothing left to do; False where they still have."""
    deadline = time.monotonic() + limit_s
    before = cpu_ticks(root)
    while time.monotonic() < deadline:
        time.sleep(_QUIET_LOOK_S)
        now = cpu_ticks(root)
        if now - before <= _QUIET_TICKS:
            return True
        before = now
    return False


def _members(root: int) -> list[int]:
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            waiting.extend(int(child) for child in _text(children).split())
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # the process has just ended


def _sizes(path: Path) -> dict[str, int]:
    """The ``Name: N kB`` lines of a /proc file, in bytes; empty when the process is gone."""
    lines = (line.split() for line in _text(path).splitlines())
    return {f[0].rstrip(":"): int(f[1]) * 1024 for f in lines if len(f) == 3 and f[2] == "kB"}
