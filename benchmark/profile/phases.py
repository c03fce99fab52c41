"""Timing one arm of a profile for one window: the loader alone, the step alone, or both together."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import residency
from benchmark.nvml import EnergyMeter, describe_gpu
from benchmark.process_tree import until_quiet
from benchmark.profile.subject import Subject
from pipelines.errors import DataError
from pipelines.telemetry import BatchTimes
from runtime.clock import StepClock
from runtime.distributed_utils import barrier, broadcast

ARMS = ("loader", "step", "both", "loader-cold", "both-cold", "step-local")

_MAX_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One window of one arm on this rank; times of steps in whole microseconds, as a record keeps them."""

    arm: str
    process: int
    round: int
    cache: str
    """``warm`` or ``cold`` where it was made so, else ``as found``; ``none`` where no file is read."""
    warmup_us: list[int]
    step_us: list[int]
    wait_us: list[int] = field(default_factory=list)
    stall_us: list[int] = field(default_factory=list)
    fetch_us: list[int] = field(default_factory=list)
    prep_us: list[int] = field(default_factory=list)
    transfer_us: list[int] = field(default_factory=list)
    host_wait_us: list[int] = field(default_factory=list)
    """How long a graph behind the host's work waited for it, where there is one."""
    ready: list[int] = field(default_factory=list)
    window_s: float
    warmup_s: float
    bytes_read: int | None = None
    resident_before: int | None = None
    resident_after: int | None = None
    energy_j: float | None = None


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long a window is."""

    seconds: float
    warmup_steps: int
    min_steps: int
    steps: int | None = None
    """Exactly that many, whatever they take."""


class Instrument:
    """Measures arms of a subject, one window at a time.

    Args:
        subject: What is measured.
        lengths: How long.
        queue: Batches that the loader may have ready.
        files: The data files, whose pages in the page cache are counted; empty: not counted.
        process: Number of this process among those whose phases are put together.
    """

    def __init__(
        self, subject: Subject, lengths: Lengths, queue: int, files: Sequence[Path], process: int = 0
    ) -> None:
        self._subject, self._lengths, self._queue = subject, lengths, queue
        self._files, self._process = files, process
        self._clock = StepClock(subject.world.device)
        self._energy = EnergyMeter(subject.world.device)
        self.gpu_states: list[dict[str, Any]] = []
        """Clocks, power, temperature and throttle reasons at the end of each window of ``both``."""
        self.disturbed = 0
        """Windows of the step alone that began before the loader was quiet."""

    def step(self, resident: Sequence[Any], number: int, *, local: bool = False) -> Phase:
        """The step alone, on batches that are there already, when nothing else runs any more."""
        self.disturbed += not until_quiet(os.getpid())
        steps = self._subject.steps(cycle(resident), local=local)
        return self._window("step-local" if local else "step", number, "none", steps, None, None)

    def loader(self, loader: Any, batches: Iterator[Any], number: int, cache: str, **limits: int) -> Phase:
        """The loader alone: its batches are taken and left."""
        arm = "loader-cold" if cache == "cold" else "loader"
        taken = _taken(self._clock.watching(batches), self._subject.config.loader.ga_steps)
        return self._window(arm, number, cache, taken, loader, batches, **limits)

    def both(self, loader: Any, batches: Iterator[Any], number: int, cache: str, **limits: int) -> Phase:
        """The step, fed by the loader."""
        arm = "both-cold" if cache == "cold" else "both"
        steps = self._subject.steps(self._clock.watching(self._subject.together(batches)))
        return self._window(arm, number, cache, steps, loader, batches, **limits)

    def _window(
        self,
        arm: str,
        number: int,
        cache: str,
        steps: Iterator[Any],
        loader: Any,
        batches: Iterator[Any] | None,
        *,
        warmup: int | None = None,
        exactly: int | None = None,
    ) -> Phase:
        world, clock = self._subject.world, self._clock
        log: list[BatchTimes] = []
        if loader is not None:
            loader.observer = log.append
        resident_before = self._resident() if loader is not None else None
        barrier(world)
        warmup_us = self._run(steps, self._lengths.warmup_steps if warmup is None else warmup)
        warmup_s = clock.window_seconds
        count = exactly or self._lengths.steps or self._lengths.min_steps
        if world.size > 1 and not (exactly or self._lengths.steps):
            count = broadcast(self._count(warmup_us), world)
        log.clear()
        read = loader.bytes_read if loader is not None else None
        barrier(world)
        self._energy.start()
        alone = world.size == 1 and exactly is None and self._lengths.steps is None
        step_us = self._run(steps, count, self._lengths.seconds if alone else 0.0)
        energy = self._energy.stop()
        if arm == "both" and world.device.type == "cuda":
            self.gpu_states.append(describe_gpu(world.device.index or 0))
        window_s, asked_at = clock.window_seconds, list(clock.asked_at)
        _check_resolution(arm, window_s, len(step_us))
        stalls = microseconds(clock.stall_seconds()) if arm.startswith("both") else []
        waits = microseconds(clock.wait_seconds()) if loader is not None else []
        if stalls and world.device.type == "cuda":
            # A host that is ahead waits in next() for the device, not for data.
            waits = stalls
        if read is not None and loader.bytes_read is not None:
            read = loader.bytes_read - read
        if batches is not None and log and exactly is None:
            # Only when it is handed out is it known when a batch was ready.
            for _ in range(self._queue):
                next(batches)
        if loader is not None:
            loader.observer = None
        return Phase(
            arm=arm,
            process=self._process,
            round=number,
            cache=cache,
            warmup_us=warmup_us,
            step_us=step_us,
            wait_us=waits,
            stall_us=stalls,
            **_services(log, asked_at, len(step_us)),
            window_s=window_s,
            warmup_s=warmup_s,
            bytes_read=read,
            resident_before=resident_before,
            resident_after=self._resident() if loader is not None else None,
            energy_j=energy if arm.startswith("both") else None,
        )

    def _run(self, steps: Iterator[Any], count: int, seconds: float = 0.0) -> list[int]:
        """``count`` steps, and as many more as fit into ``seconds``, which one rank alone can decide."""
        self._clock.start()
        end = time.perf_counter() + seconds
        for number in range(_MAX_STEPS):
            if number >= count and time.perf_counter() >= end:
                break
            next(steps)
            self._clock.step()
        self._clock.stop()
        return microseconds(self._clock.step_seconds())

    def _count(self, warmup_us: Sequence[int]) -> int:
        """Steps that fill the window, by the second half of the warm-up."""
        late = warmup_us[len(warmup_us) // 2 :]
        mean_s = max(sum(late), 1) / max(len(late), 1) / 1e6
        return min(max(self._lengths.min_steps, math.ceil(self._lengths.seconds / mean_s)), _MAX_STEPS)

    def _resident(self) -> int | None:
        try:
            return residency.resident_bytes(self._files) if self._files else None
        except residency.ResidencyError:
            return None  # the kernel does not tell this user, whose files they are not


def _taken(batches: Iterator[Any], for_each_step: int) -> Iterator[None]:
    while True:
        for _ in range(for_each_step):
            next(batches)
        yield None


def microseconds(seconds: Sequence[float]) -> list[int]:
    """Times as a record keeps them."""
    return [round(value * 1e6) for value in seconds]


def _check_resolution(arm: str, window_s: float, count: int) -> None:
    """Raise DataError where a window cannot be told from the clock's steps."""
    resolution = time.get_clock_info("perf_counter").resolution
    if window_s < 1000 * resolution or window_s / count < 10 * resolution:
        raise DataError(
            f"{count} steps of {arm} took {window_s:g} s, too short for a clock with steps of "
            f"{resolution:g} s: raise --seconds"
        )


def _services(log: list[BatchTimes], asked_at: Sequence[float], steps: int) -> dict[str, list[int]]:
    """What the loader told about the batches of a window, for each of its steps."""
    if not log or len(log) < len(asked_at):
        return {}
    per_step = len(asked_at) // steps
    of_window = log[: len(asked_at)]

    def summed(values: Sequence[float | None]) -> list[int]:
        if None in values:
            return []
        return microseconds(np.array(values, dtype=float).reshape(steps, per_step).sum(axis=1).tolist())

    found = {
        "fetch_us": summed([times.fetch_s for times in of_window]),
        "prep_us": summed([times.prep_s for times in of_window]),
        "transfer_us": summed([times.transfer_s for times in of_window]),
        "host_wait_us": summed([times.host_wait_s for times in of_window]),
    }
    # Where a graph comes after the host's work, nobody tells when the batch itself was ready.
    if not found["host_wait_us"]:
        found["ready"] = _ready(np.array([times.ready_at for times in log]), np.array(asked_at))
    return found


def _ready(ready_at: Any, asked_at: Any) -> list[int]:
    """How many batches, the one asked for and those after it, were there at each request."""
    return [int(np.count_nonzero(ready_at[k:] <= asked)) for k, asked in enumerate(asked_at)]
