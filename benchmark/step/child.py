"""A contender in a process of its own, which makes a step at each line of its standard input.

    python -m benchmark.step.child NAME TASK WEIGHTS

It answers with lines of JSON on its standard output: an empty object when it is ready, and after each step
``seconds``, ``cpu_seconds`` (of all threads), ``loss``, and ``peak_bytes``, the most resident memory so far
beyond that before the first step.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from benchmark.step.contenders import Task, prepare
from pipelines.base import Batch


class Turns(Iterator[Batch]):
    """Hands out a batch at each request; the step on it has ended when the next one is asked for.

    So steps are timed from outside, whoever's loop they are in.

    Args:
        batches: In turn.
        requests: A line for each step.
        answers: Where to tell of it.
    """

    def __init__(self, batches: Iterator[Batch], requests: IO[str], answers: IO[str]) -> None:
        self._batches, self._requests, self._answers = batches, requests, answers
        self._start: tuple[float, float] | None = None
        self._resident = 0
        self._loss: Tensor | None = None

    def hear(self, loss: object, arguments: object, value: Tensor) -> None:
        """A forward hook of the loss."""
        self._loss = value.detach()

    def __next__(self) -> Batch:
        now = _clocks()
        if self._start is None:
            # Here, because the reference makes its optimizer, which imports a lot, just before.
            self._resident = _status("VmRSS")
            self._answer({})
        else:
            assert self._loss is not None
            seconds, cpu_seconds = (end - begin for end, begin in zip(now, self._start, strict=True))
            self._answer(
                {
                    "seconds": seconds,
                    "cpu_seconds": cpu_seconds,
                    "loss": self._loss.item(),
                    "peak_bytes": _status("VmHWM") - self._resident,
                }
            )
        if not self._requests.readline():
            raise StopIteration
        batch = next(self._batches)
        self._start = _clocks()
        return batch

    def _answer(self, found: dict[str, float]) -> None:
        print(json.dumps(found), file=self._answers, flush=True)


def _clocks() -> tuple[float, float]:
    """Seconds of the world, and of this process's threads on CPUs."""
    return time.perf_counter(), time.process_time()


def _status(name: str) -> int:
    """A size of this process in bytes, of proc(5)'s ``status``."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


def main() -> None:
    """Step until there are no more requests."""
    name, task_text, weights_file = sys.argv[1:]
    # What others print is for the log.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    task = Task.from_json(task_text)
    loss, train = prepare(name, task, torch.load(weights_file, weights_only=True))
    turns = Turns(cycle(task.batches()), sys.stdin, answers)
    loss.register_forward_hook(turns.hear)
    train(turns)


if __name__ == "__main__":
    main()
