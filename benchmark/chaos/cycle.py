"""One cycle: a run is disturbed, resumed, and compared with the undisturbed one."""

import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmark.chaos.checkpoints import differences, family, foreign_names, newest_whole, read
from benchmark.chaos.deal import Plan
from benchmark.chaos.faults.base import MissedError, Scene
from benchmark.chaos.judgement import Evidence, Expected, Verdict, judge
from benchmark.chaos.mounts import small_disk
from benchmark.chaos.processes import POLL_S, is_alive, left_after
from benchmark.chaos.references import Reference
from benchmark.chaos.running import Run
from benchmark.chaos.traces import Trace, parts_differ

STARTING_LIMIT_S = 60.0
RESUMED_LIMIT_S = 60.0
PATIENCE_S = 10.0
"""For what a run leaves behind to end by itself."""
SHARED_MEMORY_BYTES = 64 << 20
KEPT = 2
"""Checkpoints, by default."""


@dataclass(frozen=True)
class Stage:
    """What cycles share."""

    work: Path
    data: Path
    mounts: bool
    """Whether file systems may be mounted."""
    interrupted: threading.Event


@dataclass(frozen=True)
class Outcome:
    """What happened in a cycle."""

    what: str
    """The fault, exactly."""
    verdict: Verdict
    lost_steps: int
    seconds: float


class Cycle:
    """A planned cycle in its folder under ``stage.work``, which is left as it was at the end."""

    def __init__(self, plan: Plan, reference: Reference, stage: Stage) -> None:
        self._plan, self._fault, self._reference, self._stage = plan, plan.fault, reference, stage
        self.folder = stage.work / f"cycle-{plan.number:03d}"
        self._evidence = Evidence()

    def go_through(self, moment: float) -> Outcome:
        """All of it, the fault at ``moment``, see `Plan`.

        Raises:
            MissedError: The fault came too late, or had nothing to hit.
            Interrupted: The campaign shall end.
            OSError: Something could not be written or mounted.
        """
        begin, fault = time.monotonic(), self._fault
        found = self._evidence = Evidence()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        with ExitStack() as stack:
            scene = self._prepare(stack)
            disturbed, what = self._disturb(scene, moment, stack)
            if found.disturbed_ended:
                resumed = self._resume(scene, stack)
                if found.resumed_ended and found.resumed_status == 0:
                    found.differences = self._compare(scene, disturbed, resumed)
            expected = Expected(
                statuses=fault.statuses,
                says=fault.says,
                silent=fault.silent,
                loses_nothing=fault.loses_nothing,
            )
            lost = max(0, found.steps_done - (found.steps_kept or 0))
            return Outcome(what, judge(found, expected), lost, time.monotonic() - begin)

    def _prepare(self, stack: ExitStack) -> Scene:
        checkpoints, shared_memory = self.folder / "checkpoints", self.folder / "shm"
        checkpoints.mkdir()
        if self._fault.disk_bytes:
            stack.enter_context(small_disk(checkpoints, self._fault.disk_bytes))
        if self._stage.mounts:
            shared_memory.mkdir()
            stack.enter_context(small_disk(shared_memory, SHARED_MEMORY_BYTES))
        data = self._stage.data
        if self._fault.copies_data:
            data = self.folder / "data"
            shutil.copytree(self._stage.data, data)
        scene = Scene(
            configuration=self._plan.configuration,
            folder=self.folder,
            data=data,
            pristine=self._stage.data,
            checkpoint=checkpoints / "c.pth",
            shared_memory=shared_memory if self._stage.mounts else None,
            random=self._plan.random,
        )
        stack.enter_context(scene.undo)
        return scene

    def _start(self, scene: Scene, part: str, flags: tuple[str, ...], stack: ExitStack) -> Run:
        configuration = scene.configuration
        command = [*configuration.command(scene.folder, part, scene.data, scene.checkpoint), *flags]
        run = Run(configuration, scene.folder, part, command, scene.shared_memory, self._stage.interrupted)
        stack.callback(run.end)
        return run

    def _disturb(self, scene: Scene, moment: float, stack: ExitStack) -> tuple[Run, str]:
        """Run with the fault; the run, and what the fault was."""
        fault, found = self._fault, self._evidence
        names = _shared_memory(scene)
        told = [fault.before(scene)]
        run = self._start(scene, "disturbed", tuple(fault.flags), stack)
        if not told[0]:
            self._wait_for(moment, run)
            found.had_checkpoint = newest_whole(scene.checkpoint) is not None
            told.append(fault.strike(scene, run))
        found.disturbed_ended = run.wait(fault.limit_s)
        alive = [rank for rank, each in enumerate(run.traces()) if each.pid and is_alive(each.pid)]
        found.orphans = _left(run)
        scene.undo.close()
        found.shared_memory = sorted(_shared_memory(scene) - names)
        found.statuses, found.errors = run.statuses(), run.errors()
        told.append(fault.after(scene))
        trace, kept = run.traces()[0], newest_whole(scene.checkpoint)
        found.steps_done = len(trace.steps)
        if self._is_done(trace) and self._came_late(alive):
            raise MissedError
        if kept:
            found.damaged = family(scene.checkpoint)[0] != kept.path
            found.steps_kept = kept.steps(self._reference.traces[0].steps_per_epoch)
        return run, ", ".join(text for text in told if text)

    def _came_late(self, alive: Sequence[int]) -> bool:
        """Whether the fault met what was left to be taken down of a run that was over."""
        found, expected = self._evidence, set(self._fault.statuses)
        if found.disturbed_ended:
            return not set(found.statuses) <= expected and all(status <= 0 for status in found.statuses)
        return alive == [self._fault.silent]

    def _is_done(self, trace: Trace) -> bool:
        """Whether a run has done all steps, and the evaluation after the last."""
        whole = self._reference.traces[0]
        return len(trace.steps) == len(whole.steps) and trace.scores.keys() == whole.scores.keys()

    def _wait_for(self, moment: float, run: Run) -> None:
        """Wait until ``moment`` of the run has come.

        Raises:
            MissedError: It ended before.
        """
        known, deadline = self._reference, time.monotonic() + STARTING_LIMIT_S
        while True:
            traces = run.traces()
            begun = [each for each in traces if each.pid is not None]
            at = None
            if moment >= 0 and traces[0].steps:
                at = traces[0].steps[0].at + moment * known.training_s
            elif moment < 0 and len(begun) == run.configuration.ranks:
                at = max(each.began for each in begun) + (1 + moment) * known.starting_s
            if at is not None and time.monotonic() >= at:
                return
            if run.has_ended():
                raise MissedError
            if at is None and time.monotonic() > deadline:
                raise MissedError
            time.sleep(POLL_S)

    def _resume(self, scene: Scene, stack: ExitStack) -> Run:
        found = self._evidence
        names = _shared_memory(scene)
        run = self._start(scene, "resumed", ("--resume", "auto"), stack)
        found.resumed_ended = run.wait(RESUMED_LIMIT_S)
        found.orphans = [*found.orphans, *_left(run)]
        found.shared_memory = [*found.shared_memory, *sorted(_shared_memory(scene) - names)]
        found.resumed_status = next((status for status in run.statuses() if status), run.process.returncode)
        found.resumed_printed, found.resumed_from = run.printed(), run.traces()[0].behind
        found.leftovers = foreign_names(scene.checkpoint, KEPT)
        return run

    def _compare(self, scene: Scene, disturbed: Run, resumed: Run) -> list[str]:
        """In what the two together are not the undisturbed run."""
        wrong = parts_differ(self._reference.traces, [disturbed.traces(), resumed.traces()])
        content = read(scene.checkpoint)
        if content is None:
            return [*wrong, "the resumed run left no checkpoint that can be read"]
        return wrong + differences(self._reference.content, content)


def _left(run: Run) -> list[str]:
    lines = left_after(run.folder, PATIENCE_S) if run.process.poll() is not None else []
    run.end()
    return [" ".join(line) for line in lines]


def _shared_memory(scene: Scene) -> set[str]:
    return set(os.listdir(scene.shared_memory or "/dev/shm"))
