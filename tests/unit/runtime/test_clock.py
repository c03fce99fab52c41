import time
from collections.abc import Iterator
from itertools import islice

import pytest
import torch

from runtime.clock import SteadyClock, StepClock

CPU = torch.device("cpu")


def slow(seconds: float) -> Iterator[int]:
    for number in range(1000):
        time.sleep(seconds)
        yield number


def test_a_step_is_its_wait_and_its_work() -> None:
    clock = StepClock(CPU)
    batches = clock.watching(slow(0.02))
    clock.start()
    for _ in range(3):
        next(batches)
        time.sleep(0.01)
        clock.step()
    clock.stop()
    assert clock.wait_seconds() == pytest.approx([0.02] * 3, abs=0.005)
    assert clock.stall_seconds() == pytest.approx(clock.wait_seconds(), abs=0.001)
    assert clock.step_seconds() == pytest.approx([0.03] * 3, abs=0.01)
    assert sum(clock.step_seconds()) == pytest.approx(clock.window_seconds, abs=0.001)
    assert len(clock.asked_at) == 3


def test_waits_of_a_step_with_several_batches_add_up() -> None:
    clock = StepClock(CPU)
    batches = clock.watching(slow(0.01))
    clock.start()
    for _ in range(2):
        list(islice(batches, 3))
        clock.step()
    clock.stop()
    assert clock.wait_seconds() == pytest.approx([0.03] * 2, abs=0.01)
    assert len(clock.asked_at) == 6


def test_what_is_outside_the_window_does_not_count() -> None:
    clock = StepClock(CPU)
    batches = clock.watching(slow(0.005))
    next(batches)
    clock.start()
    next(batches)
    clock.step()
    clock.stop()
    next(batches)
    assert len(clock.wait_seconds()) == len(clock.step_seconds()) == 1
    clock.start()
    clock.stop()
    assert clock.wait_seconds() == clock.step_seconds() == []


def test_a_loader_that_ends_ends_the_watch_too() -> None:
    clock = StepClock(CPU)
    assert list(clock.watching(iter([1, 2]))) == [1, 2]


def test_a_clock_that_is_set_moves_no_time_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    steady = SteadyClock()
    day, since = time.time(), time.monotonic()
    monkeypatch.setattr("runtime.clock.time.time", lambda: day - 3600)
    monkeypatch.setattr("runtime.clock.time.monotonic", lambda: since + 5)
    assert steady.milliseconds() == pytest.approx(1000 * (day + 5), abs=50)
    assert steady.set_by() == pytest.approx(-3605, abs=0.05)
