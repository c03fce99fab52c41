"""Work on coming batches, done ahead of time by threads of this process.

Reading, copying, searching labels and drawing noise all let go of Python's lock, so threads do them in
parallel, with nothing to start, to feed through a pipe, or to be left behind.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

from pipelines.cases import Step
from pipelines.errors import DataError

_Plan = TypeVar("_Plan")
_Job = tuple[Future[_Plan], int, Step]

_CLOSING_S = 5.0
"""How long closing waits for a thread that is in the middle of something."""


class Planner(Generic[_Plan]):
    """Calls ``work(number, step)`` for the numbered steps of a stream, ``ahead`` of where they are taken.

    A plan can be asked for until the one ``kept`` numbers on has been.

    Threads are daemons: one that hangs in a read of dead storage cannot hold up the end of the program.
    """

    def __init__(
        self,
        steps: Iterator[Step],
        work: Callable[[int, Step], _Plan],
        *,
        threads: int,
        ahead: int,
        kept: int,
        timeout: float,
        names: Callable[[tuple[int, ...]], str],
    ) -> None:
        self._steps, self._work = enumerate(steps), work
        self._ahead, self._kept, self._timeout, self._names = ahead, kept, timeout, names
        self._planned: dict[int, tuple[Step, Future[_Plan]]] = {}
        self._next = 0
        self._jobs: queue.SimpleQueue[_Job[_Plan] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"planner-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def get(self, number: int) -> _Plan:
        """The plan of step ``number``.

        Raises what ``work`` raised; DataError, naming the cases, if it takes longer than ``timeout``; and
        StopIteration, as DALI expects it, beyond the last step.
        """
        while self._next <= number + self._ahead and (numbered := next(self._steps, None)):
            index, step = numbered
            future: Future[_Plan] = Future()
            self._planned[index] = (step, future)
            self._jobs.put((future, index, step))
            self._next = index + 1
        self._planned.pop(number - self._kept, None)
        if number >= self._next:
            raise StopIteration
        step, future = self._planned[number]
        try:
            return future.result(self._timeout)
        except TimeoutError as error:
            raise DataError(
                f"{self._names(step.cases)} could not be read within {self._timeout:g} s: the storage hangs; "
                "raise --loader_timeout if it is that slow"
            ) from error

    def close(self) -> None:
        """Stop after what is being worked on now. May be called more than once."""
        for _, future in self._planned.values():
            future.cancel()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(_CLOSING_S)
        self._threads.clear()

    def _serve(self) -> None:
        while job := self._jobs.get():
            future, index, step = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._work(index, step))
                except BaseException as error:  # noqa: BLE001 - it is raised where the plan is asked for
                    future.set_exception(error)
