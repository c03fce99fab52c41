"""How long the making of a batch took, and what for: told by whoever makes it, at the price of microseconds.

A mapped file is read by touching it, so that time for data hides in the copy. What tells it from work is that
the thread then neither runs nor waits for a CPU: the kernel counts both for every thread.
"""

import os
import threading
import time
from pathlib import Path
from typing import BinaryIO, NamedTuple

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Nanoseconds on a CPU, nanoseconds waiting for one, turns: of the thread that opens it. See
Documentation/scheduler/sched-stats.rst of Linux."""

WAITS_FOR_CPU_KNOWN = _SCHEDSTAT.exists()
"""Whether this kernel tells how long a thread waited for a CPU; if not, that counts as waiting for data."""


class SampleTimes(NamedTuple):
    """The making of one sample (or, where they are made together, of a batch), by one thread.

    Instants are those of ``time.perf_counter``, which all processes of a machine share.
    """

    begin: float
    read_begin: float
    read_end: float
    end: float
    fetch_s: float
    """Seconds spent asking for data and waiting for it: reading, and every wait outside a CPU."""
    worker: int
    """The kernel's number of the thread."""

    @property
    def prep_s(self) -> float:
        """Seconds of everything else: drawing, searching labels, copying, augmenting."""
        return self.end - self.begin - self.fetch_s


class BatchTimes(NamedTuple):
    """The making of one batch that was handed out."""

    samples: tuple[SampleTimes, ...]
    transfer_s: float | None
    """Seconds of its way to the device (on CUDA: of the last batch that is known to have arrived there); None
    where a graph takes it there among other things."""
    host_wait_s: float | None = None
    """Seconds for which a graph behind the host's work waited for it; None where there is no such graph."""

    @property
    def fetch_s(self) -> float:
        """Seconds that all workers together waited for data."""
        return sum(sample.fetch_s for sample in self.samples)

    @property
    def prep_s(self) -> float:
        """Seconds that all workers together worked."""
        return sum(sample.prep_s for sample in self.samples)

    @property
    def ready_at(self) -> float:
        """When the host's work on it was done."""
        return max(sample.end for sample in self.samples)


class SampleWatch:
    """Times the making of a sample in the thread that makes it: ``reading``, ``read``, ``done``, in order."""

    def __init__(self) -> None:
        self._marks = [_Mark.now()]

    def reading(self) -> None:
        """Data is asked for next."""
        self._marks.append(_Mark.now())

    def read(self) -> None:
        """The answer is there; its pages may still be on their way."""
        self._marks.append(_Mark.now())

    def done(self) -> SampleTimes:
        """The sample is made."""
        begin, reading, read, end = *self._marks, _Mark.now()
        fetch = read.wall - reading.wall + reading.blocked_since(begin) + end.blocked_since(read)
        return SampleTimes(begin.wall, reading.wall, read.wall, end.wall, fetch, threading.get_native_id())


class _Mark(NamedTuple):
    wall: float
    busy: float
    """Seconds that this thread has run or waited for a CPU."""

    @classmethod
    def now(cls) -> "_Mark":
        return cls(time.perf_counter(), time.thread_time() + _waited_for_cpu())

    def blocked_since(self, earlier: "_Mark") -> float:
        return max(0.0, self.wall - earlier.wall - (self.busy - earlier.busy))


class _OfThread(threading.local):
    thread = 0
    file: BinaryIO


_statistics = _OfThread()


def _waited_for_cpu() -> float:
    """Seconds that this thread has waited for a CPU since it began."""
    if not WAITS_FOR_CPU_KNOWN:
        return 0.0
    if _statistics.thread != (thread := threading.get_native_id()):  # a fork inherits its parent's
        _statistics.file, _statistics.thread = _SCHEDSTAT.open("rb", buffering=0), thread
    return int(os.pread(_statistics.file.fileno(), 64, 0).split()[1]) / 1e9
