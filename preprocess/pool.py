"""Run one function over many tasks in worker processes that never outlive the program."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import TypeVar

from preprocess.machine import available_memory, usable_cpus

Task = TypeVar("Task")
Result = TypeVar("Result")


def default_workers(bytes_per_worker: int) -> int:
    """As many workers as there are usable CPUs, as long as each finds ``bytes_per_worker``; at least one."""
    return max(1, min(usable_cpus(), available_memory() // bytes_per_worker))


def run(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, preload: Sequence[str] = ()
) -> Iterator[tuple[Task, Future[Result]]]:
    """Call ``function`` on every task in ``workers`` processes; yields each task with its finished future.

    When the caller stops early (an interrupt, an error) the workers are stopped at once and waited for; when
    the program itself is killed they end by themselves. A worker killed from outside turns all unfinished
    futures into ``BrokenProcessPool``.

    Args:
        function: a module-level function.
        tasks: its arguments, picklable.
        workers: number of processes, each taking one task at a time.
        preload: modules that all workers share, imported once.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(min(workers, len(tasks)), context, _end_with_the_program)
    try:
        with _interrupts_deferred():
            _start_server_ignoring_interrupts()
            futures = {executor.submit(function, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Hold Ctrl-C back while the block starts processes: half-started ones cannot be stopped."""
    pending: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pending:
        raise KeyboardInterrupt


def _start_server_ignoring_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; only the program itself shall act on it.

    A disposition of "ignore" is inherited: by the server, and from it by every worker.
    """
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, previous)


def _end_with_the_program() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: "multiprocessing.process.BaseProcess") -> None:
    parent.join()
    os._exit(1)
