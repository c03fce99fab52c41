"""Contenders on the CPU, side by side: in each round a fresh process of each, all alive, stepping in turn."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.environment import ROOT
from benchmark.fresh_process import death, end_group
from benchmark.step.contenders import Task
from model.unet3d import Unet3D
from pipelines.errors import DataError
from preprocess.spec import NUM_CLASSES

METHOD = (
    "In each round there is a fresh process of each contender, with the same weights, batches, learning rate "
    "and threads. They step in turn, one at a time, in alternating order (A B C, C B A, ...): first warm-up "
    "steps, which do not count. A step lasts from the moment its batch is handed out until the next one is "
    "asked for; the reference's is its own training loop, which reads each loss, ours is train_step. A rate "
    "is images over the time of a round's steps; speed_ratio is of neighbours in a round, from six rounds on "
    "with the 95 % interval of Wilcoxon's signed ranks. Peak memory is a process's high-water mark of "
    "resident memory (VmHWM) less what was resident before its first step, warm-up included."
)


@dataclass
class Steps:
    """One process's steps, in their order."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of all threads: what a busy machine changes less."""
    losses: list[float] = field(default_factory=list)
    peak_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Course:
    """How long to measure."""

    rounds: int
    warmup: int
    """Steps of each process that do not count."""
    steps: int
    """Steps of each process that do."""


def first_weights(task: Task) -> dict[str, Tensor]:
    """A network's fresh weights, by the task's seed."""
    torch.manual_seed(task.seed)
    return Unet3D(1, NUM_CLASSES, filters=task.filters).state_dict()


def measure(
    names: Sequence[str], task: Task, course: Course, say: Callable[[str], None]
) -> dict[str, list[Steps]]:
    """Of each contender, what each of its processes did: the warm-up first.

    Raises:
        DataError: One cannot run; the message says why.
    """
    found: dict[str, list[Steps]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(first_weights(task), weights)
        for number in range(course.rounds):
            order = list(names) if number % 2 == 0 else list(names)[::-1]
            with ExitStack() as processes:
                running = {name: processes.enter_context(_process(name, task, weights)) for name in order}
                for name in order:
                    found[name].append(Steps())
                for turn in range(course.warmup + course.steps):
                    for name in order if turn % 2 == 0 else order[::-1]:
                        step, steps = running[name].step(), found[name][-1]
                        steps.seconds.append(step["seconds"])
                        steps.cpu_seconds.append(step["cpu_seconds"])
                        steps.losses.append(step["loss"])
                        steps.peak_bytes = step["peak_bytes"]
            for name in names:
                counted = found[name][-1].seconds[course.warmup :]
                say(f"round {number + 1}: {name} {sum(counted) / len(counted):.2f} s a step")
    return found


class _Process:
    """A contender that waits for its turn."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self._name, self._process, self._log = name, process, log
        self._answer()

    def step(self) -> dict[str, Any]:
        """What the child says of a step."""
        assert self._process.stdin
        # Where it has ended, reading its answer says why.
        with suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise DataError(f"{self._name} {death(self._process.wait(), self._log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _process(name: str, task: Task, weights: Path) -> Iterator[_Process]:
    log = weights.with_name(f"{name}.log")
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.step.child", name, task.to_json(), str(weights)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            text=True,
        )
    try:
        yield _Process(name, process, log)
    finally:
        end_group(process)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
