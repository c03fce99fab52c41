"""Time as the harness takes it: monotonic, and synchronised with the device only at window edges."""

import time

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all work submitted so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class StepClock:
    """Times a window of steps without stopping the device in between.

    The window's length is taken by the monotonic clock between two synchronised edges. The durations of
    single steps come from CUDA events on a GPU, and from the same monotonic clock on a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[float | torch.cuda.Event] = []
        self._begin = self._end = 0.0

    def _mark(self) -> None:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def start(self) -> None:
        """Open the window."""
        synchronize(self._device)
        self._marks.clear()
        self._begin = time.perf_counter()
        self._mark()

    def step(self) -> None:
        """A step has been submitted."""
        self._mark()

    def stop(self) -> None:
        """Close the window."""
        synchronize(self._device)
        self._end = time.perf_counter()

    @property
    def window_seconds(self) -> float:
        """Length of the closed window."""
        return self._end - self._begin

    def step_seconds(self) -> list[float]:
        """Duration of each step of the closed window."""
        seconds = []
        for begin, end in zip(self._marks, self._marks[1:], strict=False):
            if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                seconds.append(begin.elapsed_time(end) / 1000)
            elif isinstance(begin, float) and isinstance(end, float):
                seconds.append(end - begin)
        return seconds
