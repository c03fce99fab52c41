"""How the check goes: section after section, within the time there is, whatever an item does."""

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmark.fresh_process import ProcessError
from benchmark.gpu_check.journal import FAILED, NOT_RUN, OK, WRONG, Journal, Outcome
from benchmark.gpu_check.plan import Item, Plan
from benchmark.gpu_check.sections import Section
from benchmark.gpu_check.worker import Worker

_OVERRUN_S = 30.0
"""How far an item may run into the time of the sections after its own."""


class Course:
    """Runs sections.

    Args:
        plan: What to check.
        journal: Takes the outcomes.
        scratch: Folder for what processes print.
        budget_s: Seconds for everything.
        worker: Makes a child, given its log; tests have their own.
        now: A clock, in seconds.
    """

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        scratch: Path,
        budget_s: float,
        worker: Callable[[Path], Worker],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._journal, self._scratch = plan, journal, scratch
        self._budget_s, self._make, self._now = budget_s, worker, now
        self._begin = now()
        self._until_s = 0.0
        """When the section at hand has had its share, in seconds since the beginning."""
        self._interrupted = threading.Event()
        self._child = worker(scratch / "child.txt")
        """For all that is done alone: it may go on from section to section."""
        self._children = [self._child]

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._now() - self._begin

    def run(self, sections: Sequence[Section]) -> None:
        """Everything, until the time is up; children are ended whatever happens."""
        whole = sum(section.share for section in sections)
        try:
            for section in sections:
                self._until_s += self._budget_s * section.share / whole
                self._section(section)
        finally:
            self._interrupted.set()
            for child in self._children:
                child.stop()

    def _section(self, section: Section) -> None:
        begin = self._now()
        gone = f"{self.seconds:.0f} s of {self._budget_s:.0f} s are gone"
        self._journal.begin(section.name, f"{section.title} ({gone})")
        try:
            items = section.items(self._plan, self._journal)
        except Exception as error:  # noqa: BLE001 - a section that cannot even begin must not cost the others
            reason = f"{type(error).__name__}: {error}"
            self._note(section, Outcome("the section itself", FAILED, reason))
            return
        together = [item for item in items if section.parallel and not item.alone]
        if together:
            self._together(section, together)
        for item in items:
            if item not in together:
                if item.fresh:
                    self._child.end()
                self._item(section, item, self._child)
                if item.fresh:
                    self._child.end()
        if section.after and (outcome := section.after(self._journal)):
            self._note(section, outcome)
        self._journal.end(section.name, self._now() - begin)

    def _together(self, section: Section, items: Sequence[Item]) -> None:
        """Items by several children at a time, in about this order."""
        waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
        for item in items:
            waiting.put(item)
        jobs = max(1, min(self._plan.scale.jobs, len(os.sched_getaffinity(0)) // 2))
        children = [self._make(self._scratch / f"{section.name}-{number}.txt") for number in range(jobs)]
        self._children += children

        def work(child: Worker) -> None:
            while not self._interrupted.is_set():
                try:
                    item = waiting.get_nowait()
                except queue.Empty:
                    return
                self._item(section, item, child)

        with ThreadPoolExecutor(jobs) as pool:
            try:
                for done in [pool.submit(work, child) for child in children]:
                    done.result()
            except BaseException:
                self._interrupted.set()
                raise
            finally:
                for child in children:
                    child.stop()

    def _item(self, section: Section, item: Item, child: Worker) -> None:
        begin = self._now()
        if item.not_here:
            status, _, reason = item.not_here.partition(": ")
            self._note(section, Outcome(item.name, status, reason))
            return
        if self.seconds >= self._until_s:
            self._note(section, Outcome(item.name, NOT_RUN, "out of time"))
            return
        limit_s = min(item.limit_s, min(self._budget_s, self._until_s + _OVERRUN_S) - self.seconds)
        values: dict[str, Any] | None = None
        try:
            if section.run:
                child.end()  # it would keep a part of the device
                values = section.run(self._scratch, item.arguments, limit_s)
            else:
                values = child.ask(section.name, item.arguments, limit_s)
            reason = section.wrong(values)
            status = WRONG if reason else OK
        except ProcessError as error:
            status, reason = FAILED, str(error)
        except Exception as error:  # noqa: BLE001 - what is wrong with one item must not cost the others
            status, reason = FAILED, f"{type(error).__name__}: {error}"
        self._note(section, Outcome(item.name, status, reason, self._now() - begin, values))

    def _note(self, section: Section, outcome: Outcome) -> None:
        said = section.line(outcome.values) if outcome.values is not None else ""
        verdict = "" if outcome.status == OK else f"{outcome.status.upper()}: {outcome.reason}"
        line = f"{outcome.name}: {'; '.join(part for part in (said, verdict) if part)}"
        self._journal.note(section.name, outcome, line)
