"""Signals that ask a run to end: noted or raised, and seen to even where the main thread cannot.

Python runs its handlers between two instructions of the main thread, which may hang in a collective of NCCL
for ever. A thread of its own therefore learns of every signal through ``signal.set_wakeup_fd``.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what schedulers and launchers end a process by; what SLURM announces a preemption by."""

GRACE_S = 25.0
"""From a signal to a forced end, where the run has not ended by itself. SLURM and torchrun wait 30 s."""

_TEARDOWN_S = 10.0

_SAME_S = 0.5
"""Signals that come so soon after the first are the same one, sent on by a launcher as well."""


class Signals:
    """What this process does on `ENDING`: the first asks it to end, a second ends it at once.

    Where nobody heeds signals, the first raises KeyboardInterrupt (SIGINT) or SystemExit with 128 + its
    number, wherever the main thread is; no other does, as the process is on its way out then.
    """

    def __init__(self) -> None:
        self.received = 0
        """Number of the first signal; 0 as long as none has come."""
        self._owner = os.getpid()
        self._heeded = False
        self._grace_s: float | None = None

    def install(self) -> None:
        """Set the handlers; to be called in the main thread."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        for number in ENDING:
            signal.signal(number, self._handle)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        threading.Thread(target=self._see_to_it, args=(reader,), name="signals", daemon=True).start()

    def limit(self, grace_s: float = GRACE_S) -> None:
        """From now on the process ends within ``grace_s`` seconds of a signal, if need be by force."""
        self._grace_s = grace_s

    def heed(self) -> None:
        """From now on a signal is noted and raises nothing: this process is on its way out with a reason."""
        self._heeded = True

    @contextlib.contextmanager
    def heeded(self) -> Iterator[None]:
        """Inside, a signal is noted and raises nothing: somebody looks at `received` between steps.

        It stays so after an exception, whose way up no signal shall cross: launchers send one to every rank
        that a failed one leaves behind.
        """
        self._heeded = True
        yield
        self._heeded = False

    def stand_down(self, status: int) -> None:
        """The process is done and will exit with ``status``, whatever signal comes; if need be by force."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)  # not undone by the end of the interpreter, as handlers are
        end = threading.Timer(_TEARDOWN_S, os._exit, [status])
        end.daemon = True
        end.start()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            os._exit(128 + number)  # a worker that was forked a moment ago
        if self.received:
            return
        self.received = number
        if not self._heeded:
            _raise(number)

    def _see_to_it(self, reader: socket.socket) -> None:
        first, at = 0, 0.0
        while True:
            left = max(0.0, at + self._grace_s - time.monotonic()) if first and self._grace_s else None
            if not select.select([reader], [], [], left)[0]:
                name = signal.Signals(first).name
                sys.stderr.write(
                    f"main.py: did not end within {self._grace_s:g} s of {name}: ended by force\n"
                )
                os._exit(128 + first)
            for number in reader.recv(64):  # of every signal that has a handler
                if number not in ENDING:
                    continue
                if not first:
                    first, at = number, time.monotonic()
                elif time.monotonic() - at > _SAME_S:
                    os._exit(128 + first)


def _raise(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
