"""Time as the harness takes it: monotonic, and synchronised with the device only at window edges."""

import time
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import torch

_Batch = TypeVar("_Batch")
_Instant = float | torch.cuda.Event


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all work submitted so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class SteadyClock:
    """The time of day when it was made, and from there on what the monotonic clock adds.

    The system's own may be set meanwhile, by a daemon or by hand: a time to train would be that much off.
    """

    def __init__(self) -> None:
        self._made, self._made_steady = time.time(), time.monotonic()

    def milliseconds(self) -> int:
        """Since 1970."""
        return int(1000 * (self._made + time.monotonic() - self._made_steady))

    def set_by(self) -> float:
        """Seconds by which the system's clock was set forward since, or slewed; negative: back."""
        return time.time() - self._made - (time.monotonic() - self._made_steady)


class StepClock:
    """Times a window of steps without stopping the device in between.

    The window's length is taken by the monotonic clock between two synchronised edges. The durations of
    single steps, and of the device's waits for data, come from CUDA events on a GPU and from the same
    monotonic clock on a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[_Instant] = []
        self._waits: list[tuple[int, float, _Instant, _Instant]] = []
        self._begin = self._end = 0.0
        self.asked_at: list[float] = []
        """``time.perf_counter`` at each request for a batch."""

    def _now(self) -> _Instant:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def start(self) -> None:
        """Open the window."""
        synchronize(self._device)
        self._marks.clear()
        self._waits.clear()
        self.asked_at.clear()
        self._begin = time.perf_counter()
        self._marks.append(self._now())

    def step(self) -> None:
        """A step has been submitted."""
        self._marks.append(self._now())

    def stop(self) -> None:
        """Close the window."""
        synchronize(self._device)
        self._end = time.perf_counter()

    def stop_at_last_step(self) -> None:
        """Close the window where its last step ended, whatever has begun since."""
        synchronize(self._device)
        self._end = self._begin + sum(self.step_seconds())

    def watching(self, batches: Iterator[_Batch]) -> Iterator[_Batch]:
        """The same batches; how long each was waited for is noted."""
        return _Watched(self, batches)

    def next_of(self, batches: Iterator[_Batch]) -> _Batch:
        """The next batch, and a note of the wait for it."""
        idle, begin = self._now(), time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - begin
        self.asked_at.append(begin)
        self._waits.append((len(self._marks) - 1, waited, idle, self._now()))
        return batch

    @property
    def window_seconds(self) -> float:
        """Length of the closed window."""
        return self._end - self._begin

    def step_seconds(self) -> list[float]:
        """Duration of each step of the closed window."""
        return [_between(begin, end) for begin, end in zip(self._marks, self._marks[1:], strict=False)]

    def wait_seconds(self) -> list[float]:
        """Of each step: how long this process was inside ``next`` of the batches it watches."""
        return self._summed((step, waited) for step, waited, _, _ in self._waits)

    def stall_seconds(self) -> list[float]:
        """Of each step: how long the device had nothing to do, since the next batch was not there."""
        return self._summed((step, _between(idle, there)) for step, _, idle, there in self._waits)

    def _summed(self, waits: Iterable[tuple[int, float]]) -> list[float]:
        seconds = [0.0] * (len(self._marks) - 1)
        for step, waited in waits:
            if step < len(seconds):  # what comes later belongs to no step of the window
                seconds[step] += waited
        return seconds


class _Watched(Generic[_Batch]):
    """See `StepClock.watching`."""

    def __init__(self, clock: StepClock, batches: Iterator[_Batch]) -> None:
        self._clock, self._batches = clock, batches

    def __iter__(self) -> Iterator[_Batch]:
        return self

    def __next__(self) -> _Batch:
        return self._clock.next_of(self._batches)


def _between(begin: _Instant, end: _Instant) -> float:
    if isinstance(begin, float) and isinstance(end, float):
        return end - begin
    if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return begin.elapsed_time(end) / 1000
    raise TypeError("instants of different clocks")
