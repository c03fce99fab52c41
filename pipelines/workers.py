"""How a worker process behaves: deaf to what ends a run, single-threaded, never outliving its parent."""

import ctypes
import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C and schedulers send these to whole process groups. The parent finishes its step, for which it needs
its workers, and then ends them in order."""


class WorkerInit:
    """``worker_init_fn`` of a DataLoader; make it in the process that starts the workers.

    The kernel kills the worker when the thread that started it ends, so that not even SIGKILL of the
    parent leaves an orphan with its shared memory. Start iterating from a thread that stays.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()

    def __call__(self, worker: int) -> None:
        """Prepare worker number ``worker``."""
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        # The parent's, which would take a signal to this process for one to itself.
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent:
            # The parent ended before the kernel was asked.
            os._exit(1)
        torch.set_num_threads(1)


@contextmanager
def born_deaf_to_interrupts() -> Iterator[None]:
    """Start workers inside: they inherit this thread's mask, so no signal meets one before it ignores it.

    It does not hold an interrupt back from the parent, whose other threads may take the signal.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def born_without_garbage() -> Iterator[None]:
    """Start workers inside: they never destroy what they inherited.

    A DALI pipeline that the parent has dropped, and its garbage collector not yet found, would wait in the
    worker for threads that are the parent's.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def children_end_quietly() -> Iterator[None]:
    """Start workers inside: DataLoader's handler for their end is not left behind.

    It would raise RuntimeError wherever the program is at that moment, in a training step as well; a loader
    looks after its workers while it waits for them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Neither DataLoader nor anybody else may set handlers there.
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)
