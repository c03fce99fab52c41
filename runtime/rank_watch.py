"""Watches over ranks: one that fails, dies or hangs takes all others with it, soon and with its own reason.

A rank that waits in a collective for one that is gone learns nothing, or learns it after minutes and in many
lines. So every rank says twice a second, in a key-value store that rank 0 holds, that it lives; the first to
know of a fault writes it there; and a thread of every rank reads it there and ends a process whose main
thread does not end by itself.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from pipelines.errors import DataError
from runtime.distributed_utils import World, gather, store_of_rank_0, this_machine
from runtime.errors import RunError, Stopped
from runtime.signals import Signals

_BEAT_S = 0.5
_GRACE_S = 5.0
"""From a fault elsewhere to a forced end: the main thread may find a way out until then."""
_HEARING_S = 3.0
"""How long a rank that fails waits for the others to hear why, and one that lost contact for the reason."""

_BY_A_SIGNAL = "ended by a signal"
_WITHOUT_A_WORD = "has ended without a word: it was killed, or ran out of memory"


class Fault(NamedTuple):
    """The first thing that went wrong."""

    rank: int
    reason: str

    @property
    def sentence(self) -> str:
        """For those whose fault it is not."""
        return f"rank {self.rank} {self.reason}"


class _Peer(NamedTuple):
    machine: str
    pid: int


class RankWatch:
    """This rank's part in the watch; see the module. Start it with `watched`.

    Args:
        world: All ranks.
        store: Held by rank 0.
        peers: All ranks' machines and processes, in order of rank.
        timeout: Seconds without a sign of life after which a rank counts as hanging.
    """

    def __init__(self, world: World, store: dist.TCPStore, peers: list[_Peer], timeout: float) -> None:
        self._rank, self._size = world.rank, world.size
        self._store, self._peers, self._timeout = store, peers, timeout
        self._stopped = threading.Event()
        self._fault: Fault | None = None
        self._said = False
        self._contact = time.monotonic()
        self._beats = {rank: (b"", time.monotonic()) for rank in range(world.size)}
        for work in (self._tell, self._look):
            threading.Thread(target=work, name="rank watch", daemon=True).start()

    def report(self, reason: str) -> None:
        """This rank fails; says so to the others, unless one has failed before, and waits until they know."""
        self._post(Fault(self._rank, f"failed: {reason}"))
        others = [f"heard {rank}" for rank in range(self._size) if rank != self._rank]
        with contextlib.suppress(RuntimeError):  # somebody has gone, and knows or never will
            self._store.wait(others, timedelta(seconds=_HEARING_S))

    def first_fault(self, wait_s: float = 0.0) -> Fault | None:
        """The fault that all ranks end for, once it is known; this rank says it."""
        deadline = time.monotonic() + wait_s
        while self._fault is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self._said = True
        return self._fault

    def stop(self) -> None:
        """This rank ends as it should."""
        self._stopped.set()
        with contextlib.suppress(RuntimeError):  # rank 0 may have ended before
            for word in ("done", "heard"):
                self._store.set(f"{word} {self._rank}", "")

    def _post(self, fault: Fault) -> None:
        with contextlib.suppress(RuntimeError):  # nobody is left to hear it
            said = self._store.compare_set("fault", "", json.dumps(fault))
            fault = Fault(*json.loads(said))
        self._fault = self._fault or fault

    def _tell(self) -> None:
        """Give signs of life, and hear of faults."""
        count = 0
        while not self._stopped.wait(_BEAT_S):
            try:
                self._store.set(f"beat {self._rank}", str(count := count + 1))
                if self._store.check(["fault"]):
                    self._fault = Fault(*json.loads(self._store.get("fault")))
                    self._store.set(f"heard {self._rank}", "")
                elif self._rank == 0:
                    self._take_beats()
            except RuntimeError:  # torch's errors of the store are of this kind
                if not self._stopped.is_set():
                    self._fault = self._fault or Fault(0, _WITHOUT_A_WORD)
            self._contact = time.monotonic()
            if self._fault:
                return

    def _take_beats(self) -> None:
        now = time.monotonic()
        for rank in range(1, self._size):
            key = f"beat {rank}"
            beat = self._store.get(key) if self._store.check([key]) else b""
            known, since = self._beats[rank]
            if beat != known:
                self._beats[rank] = beat, now
            elif now - since > self._timeout and not self._is_done(rank):
                self._post(Fault(rank, self._silence))

    @property
    def _silence(self) -> str:
        return f"has given no sign of life for {self._timeout:g} s (--rank_timeout)"

    def _is_done(self, rank: int) -> bool:
        return bool(self._store.check([f"done {rank}"]))

    def _look(self) -> None:
        """See what cannot be heard: a neighbour that died, a rank 0 that hangs, a fault that is known."""
        while not self._stopped.wait(_BEAT_S):
            if self._fault is None and time.monotonic() - self._contact > self._timeout:
                self._fault = Fault(0, self._silence)
            if self._fault is None:
                self._look_at_neighbours()
            if self._fault:
                self._end_with(self._fault)
                return

    def _look_at_neighbours(self) -> None:
        for rank, peer in enumerate(self._peers):
            near = rank != self._rank and peer.machine == self._peers[self._rank].machine
            if near and _is_gone(peer.pid):
                try:
                    if self._is_done(rank):
                        continue
                except RuntimeError:
                    return  # rank 0 is gone, which is heard of
                self._post(Fault(rank, _WITHOUT_A_WORD))

    def _end_with(self, fault: Fault) -> None:
        """End this process, by force where it does not end by itself; and a neighbour that hangs."""
        peer = self._peers[fault.rank]
        if fault.reason == self._silence and peer.machine == self._peers[self._rank].machine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(peer.pid, signal.SIGKILL)
        if not self._stopped.wait(_GRACE_S):
            if not self._said:
                sys.stderr.write(f"main.py: error: {fault.sentence}\n")
            os._exit(1)


def _is_gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


@contextlib.contextmanager
def watched(world: World, timeout: float, signals: Signals) -> Iterator[None]:
    """Watch over all ranks inside; every rank must come, and leave at about the same time.

    A launcher sends signals to those that a failed rank leaves behind: they are noted, and the reason is
    said all the same.

    Raises:
        RunError: Another rank failed, died or hangs: which one, and why, in place of what this one met.
    """
    if world.size == 1:
        yield
        return
    store = store_of_rank_0(world)
    assert store is not None
    watch = RankWatch(world, store, gather(_Peer(this_machine(), os.getpid()), world), timeout)
    try:
        yield
    except Stopped:
        watch.stop()
        raise
    except (KeyboardInterrupt, SystemExit) as ended:
        signals.heed()
        # A launcher sends it to those that a dead rank leaves behind.
        first = watch.first_fault(2 * _BEAT_S)
        if first is None:
            watch.report(_BY_A_SIGNAL)
        watch.stop()
        if first is not None and first.reason != f"failed: {_BY_A_SIGNAL}":
            raise RunError(first.sentence) from ended
        raise
    except Exception as error:
        signals.heed()
        fault = _reason(watch, error)
        if fault is None:
            raise
        raise RunError(fault) from error
    else:
        watch.stop()


def _reason(watch: RankWatch, error: Exception) -> str | None:
    """Why this rank ends with ``error``, for its user; None where that says so itself. Tells the others."""
    reason, broken = _first_line(error), _is_collectives(error)
    # Its own reason, or a collective's that broke because of another rank's?
    first = watch.first_fault(_HEARING_S if broken else 0.0)
    if first is not None and first.reason != f"failed: {reason}":
        return first.sentence
    watch.report(reason)
    return f"lost contact with the other ranks: {reason}" if broken else None


def _is_collectives(error: Exception) -> bool:
    """Whether it is torch's about a connection or a time limit, and nobody's own."""
    if isinstance(error, DataError | RunError):
        return False
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower() or "NCCL" in str(error)


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return text if isinstance(error, DataError | RunError) else f"{type(error).__name__}: {text}"
