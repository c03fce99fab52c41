"""What measuring costs: everything that is there for the instrument's sake, in microseconds of a step."""

import time
from collections.abc import Callable
from itertools import repeat

import torch
from torch.profiler import record_function

from pipelines.telemetry import BatchTimes, SampleWatch
from runtime.clock import StepClock

LIMIT_US = 500.0
"""1 % of a step of 50 ms."""

_REPEATS = 5
_SPANS = 5
"""Named parts of a training step, see ``runtime.training.train_step``."""


def per_step_us(batch_size: int, count: int = 2000) -> dict[str, float]:
    """For each part of the instrument the best of five runs, less what the empty loop takes.

    The workers' part is counted whole, though they work beside the step.
    """
    clock, batches = StepClock(torch.device("cpu")), repeat(None)
    watched = clock.watching(batches)
    log: list[BatchTimes] = []

    def stepping() -> None:
        next(watched)
        clock.step()

    def watching() -> None:
        watch = SampleWatch()
        watch.reading()
        watch.read()
        times = watch.done()
        log.append(BatchTimes((times,), 0.0))

    def naming() -> None:
        with record_function("forward"):
            pass

    clock.start()
    empty = _best_us(lambda: next(batches), count)
    return {
        "clock and wait for a batch": _best_us(stepping, count) - empty,
        "times of a batch's samples": batch_size * (_best_us(watching, count) - empty),
        "names for profilers": _SPANS * (_best_us(naming, count) - empty),
    }


def _best_us(action: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        for _ in range(count):
            action()
        times.append(time.perf_counter() - begin)
    return min(times) / count * 1e6
