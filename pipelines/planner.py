"""Work on coming batches, done ahead of time by threads of this process.

Reading, copying, searching labels and drawing noise all let go of Python's lock, so threads do them in
parallel, with nothing to start, to feed through a pipe, or to be left behind.
"""

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from pipelines.errors import DataError

_Item = TypeVar("_Item")
_Plan = TypeVar("_Plan")
_Jobs = queue.SimpleQueue[tuple[Future[Any], int, Any] | None]

_CLOSING_S = 5.0
"""How long closing waits for threads that are in the middle of something."""


class Planner(Generic[_Item, _Plan]):
    """Calls ``work(number, item)`` for the numbered items of a stream, ``ahead`` of where they are taken.

    A plan can be asked for until the one ``kept`` numbers on has been. Threads are daemons: one that hangs in
    a read of dead storage cannot hold up the end of the program. All others end with the planner, or before
    the interpreter does.
    """

    def __init__(
        self,
        items: Iterator[_Item],
        work: Callable[[int, _Item], _Plan],
        *,
        threads: int,
        ahead: int,
        kept: int,
        timeout: float,
        names: Callable[[_Item], str],
    ) -> None:
        self._items = enumerate(items)
        self._ahead, self._kept, self._names = ahead, kept, names
        self._timeout = min(timeout, threading.TIMEOUT_MAX)
        self._planned: dict[int, tuple[_Item, Future[_Plan]]] = {}
        self._next = 0
        self.waited_s = 0.0
        """Seconds for which those who asked for plans have waited."""
        self._jobs: _Jobs = queue.SimpleQueue()
        stopped = threading.Event()
        # The threads know nothing of the planner, so that it can end and end them.
        servers = [
            threading.Thread(
                target=_serve, args=(self._jobs, stopped, work), name=f"planner-{i}", daemon=True
            )
            for i in range(threads)
        ]
        for server in servers:
            server.start()
        self._end = weakref.finalize(self, _stop, self._jobs, stopped, servers)

    def get(self, number: int) -> _Plan:
        """The plan of item ``number``.

        Raises what ``work`` raised; DataError, naming the item, if it takes longer than ``timeout``; and
        StopIteration, as DALI expects it, beyond the last item.
        """
        while self._next <= number + self._ahead and (numbered := next(self._items, None)):
            index, item = numbered
            future: Future[_Plan] = Future()
            self._planned[index] = (item, future)
            self._jobs.put((future, index, item))
            self._next = index + 1
        self._planned.pop(number - self._kept, None)
        if number >= self._next:
            raise StopIteration
        item, future = self._planned[number]
        begin = time.perf_counter()
        try:
            plan = future.result(self._timeout)
        except TimeoutError as error:
            raise DataError(
                f"{self._names(item)} could not be read within {self._timeout:g} s: the storage hangs; "
                "raise --loader_timeout if it is that slow"
            ) from error
        self.waited_s += time.perf_counter() - begin
        return plan

    def item(self, number: int) -> _Item:
        """The item of a plan that can still be asked for."""
        return self._planned[number][0]

    def close(self) -> None:
        """Stop after what is being worked on now. May be called more than once."""
        self._end()


def _serve(jobs: _Jobs, stopped: threading.Event, work: Callable[[int, Any], Any]) -> None:
    while job := jobs.get():
        future, index, item = job
        if stopped.is_set():
            return
        try:
            future.set_result(work(index, item))
        except BaseException as error:  # noqa: BLE001 - it is raised where the plan is asked for
            future.set_exception(error)


def _stop(jobs: _Jobs, stopped: threading.Event, servers: Sequence[threading.Thread]) -> None:
    stopped.set()
    for _ in servers:
        jobs.put(None)
    deadline = time.monotonic() + _CLOSING_S
    for server in servers:
        server.join(max(0.0, deadline - time.monotonic()))
