"""What the phases of a profile say, as plain values for a record.

Formulas (R: images/s; both, step and loader are the arms):

* data stall = 1 - R_both / R_step; prep stall = 1 - min(1, R_loader / R_step); fetch stall =
  (R_loader - R_loader_cold) / R_step, each rate at most R_step, since more is of no use: as DS-Analyzer has
  them (Mohan et al., VLDB 2021).
* overlap efficiency = max(T_loader, T_step) / T_both, of seconds for a step: 1 where the shorter is hidden.
* headroom = R_loader / R_step.
* contention tax = T_compute(both) / T_compute(step) - 1, T_compute being a step without its waits for data.
* AU as MLPerf Storage has it: time in compute / time running, the first step left out.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.profile.phases import Phase
from pipelines.errors import DataError
from runtime import statistics
from runtime.long_run import LEVEL, student
from runtime.statistics import Interval

TFDATA_LINE_US = 50
"""A next() below it means that input is no bottleneck: tensorflow.org/guide/data_performance_analysis."""

_MIN_WINDOWS = 3
"""Whose scatter says anything about the next."""

Values = dict[str, Any]
Windows = list[list[float]]


class Phases:
    """Phases by arm, in seconds."""

    def __init__(self, phases: Sequence[Phase], block: int) -> None:
        self.block = block
        self._phases = phases

    def of(self, arm: str) -> list[Phase]:
        """The windows of an arm."""
        return [phase for phase in self._phases if phase.arm == arm]

    def steps(self, arm: str) -> Windows:
        """Durations of steps."""
        return [_seconds(phase.step_us) for phase in self.of(arm)]

    def stalls(self, arm: str) -> Windows:
        """The device's waits for data."""
        return [_seconds(phase.stall_us) for phase in self.of(arm)]

    def compute(self, arm: str) -> Windows:
        """Steps without their stalls."""
        pairs = zip(self.steps(arm), self.stalls(arm), strict=True)
        return [np.subtract(steps, stalls).tolist() for steps, stalls in pairs]

    def waits(self, arm: str) -> list[float]:
        """Seconds in next() of all steps."""
        return [value for phase in self.of(arm) for value in _seconds(phase.wait_us)]

    def mean(self, windows: Windows) -> float:
        """Seconds for a step."""
        return sum(map(sum, windows)) / sum(map(len, windows))

    def service(self, arm: str, part: str) -> float | None:
        """Mean seconds of ``fetch``, ``prep``, ``transfer`` or ``host_wait`` for a step; None if not told."""
        values = [value for phase in self.of(arm) for value in getattr(phase, f"{part}_us")]
        return sum(values) / len(values) / 1e6 if values else None


def rates(phases: Phases, images_per_step: int) -> Values:
    """For each arm that was measured: images/s with its interval, and how its steps spread."""
    found = {}
    for arm in ("loader", "step", "both", "loader-cold", "both-cold", "step-local"):
        if windows := phases.steps(arm):
            found[arm] = _rate(phases, windows, images_per_step)
    return found


def _rate(phases: Phases, windows: Windows, images_per_step: int) -> Values:
    every = [value for window in windows for value in window]
    noise = statistics.noise(every)
    p50, p90, p99 = (1000 * value for value in statistics.percentiles(every, (50, 90, 99)))
    mild, far = statistics.tukey_outliers(every)
    value: Values = {"images_per_s": images_per_step * len(every) / sum(every), "low": None, "high": None}
    steady, because = True, ""
    try:
        interval = statistics.rate(windows, images_per_step, phases.block)
        value |= {"low": interval.low, "high": interval.high}
        unsteady = [s for s in (statistics.steadiness(w, phases.block) for w in windows) if not s.steady]
        # By chance alone one window in twenty may look unsteady.
        if 2 * len(unsteady) > len(windows):
            steady, because = False, unsteady[0].because
    except DataError as error:
        interval = _by_windows(value["images_per_s"], [images_per_step / _mean(window) for window in windows])
        because = str(error) if math.isnan(interval.low) else ""
        value |= {name: bound for name, bound in (plain(interval) or {}).items() if name != "value"}
    return value | {
        "steps": len(every),
        "window_s": sum(every),
        "windows": len(windows),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "iqr_over_median": noise.iqr_over_median,
        "mild_outliers": mild,
        "far_outliers": far,
        "steady": steady,
        "unsteady_because": because,
    }


def quotient(phases: Phases, over: Windows, under: Windows) -> Interval:
    """Rate of ``over`` divided by the rate of ``under``, from the same rounds unless one was cut short; no
    bounds where there are too few steps."""
    value = phases.mean(under) / phases.mean(over)
    try:
        return statistics.ratio(over, under, phases.block, paired=len(over) == len(under))
    except DataError:
        if len(over) != len(under):
            return Interval(value, math.nan, math.nan)
        pairs = zip(over, under, strict=True)
        return _by_windows(value, [_mean(second) / _mean(first) for first, second in pairs])


def _by_windows(value: float, of_each: Sequence[float]) -> Interval:
    """The interval of a positive ``value`` from what each window says of it, where windows are too short to
    tell how their own steps scatter (a pass over the cases from a cold cache): Student's, of logarithms."""
    count = len(of_each)
    if count < _MIN_WINDOWS or min(of_each) <= 0:
        return Interval(value, math.nan, math.nan)
    deviation = float(np.std(np.log(of_each), ddof=1)) / math.sqrt(count)
    factor = math.exp(student(LEVEL, count - 1) * deviation)
    return Interval(value, value / factor, value * factor)


def _mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds)


def at_most_one(value: float) -> float:
    """A bound that is not known (NaN) stays so."""
    return value if math.isnan(value) else min(1.0, value)


def plain(interval: Interval | None) -> Values | None:
    """For a record; bounds that are not known are null."""
    if interval is None:
        return None
    return {name: None if math.isnan(value) else value for name, value in interval._asdict().items()}


def stall_share(phases: Phases, arm: str = "both") -> Interval:
    """The part of a step's time for which the device had no data."""
    stalls, total = phases.stalls(arm), phases.mean(phases.steps(arm))
    if (mean := phases.mean(stalls)) == 0:
        return Interval(0.0, 0.0, 0.0)
    try:
        per_stall = statistics.rate(stalls, 1.0, phases.block)
    except DataError:
        share = _by_windows(mean / total, [_mean(window) / total for window in stalls])
        return share._replace(high=at_most_one(share.high))
    return Interval(mean / total, 1 / per_stall.high / total, at_most_one(1 / per_stall.low / total))


def breakdown(phases: Phases, computing: float, arm: str = "both") -> dict[str, float]:
    """Milliseconds of a step of ``arm``: what computing alone takes, what it takes longer because the loader
    works beside it, and the wait for data by what the loader does meanwhile.

    A wait is for the transfer first, where that is in the way of the step; the rest is shared between fetch
    and prep as the workers' time is. Where a graph works behind them, only the part of its time that it waits
    for them is theirs, and the rest prep. Without the loader's word it is prep, but for what is waited longer
    with a cold cache.
    """
    total, stall = phases.mean(phases.steps(arm)), phases.mean(phases.stalls(arm))
    compute = total - stall
    transfer = min(stall, phases.service(arm, "transfer") or 0.0)
    fetch, prep = phases.service(arm, "fetch"), phases.service(arm, "prep")
    fetch_part = 0.0
    if fetch is None and arm == "both-cold" and stall > 0:
        fetch_part = max(0.0, stall - phases.mean(phases.stalls("both"))) / stall
    elif fetch is not None and prep is not None and fetch + prep > 0:
        fetch_part = fetch / (fetch + prep)
        if (host_wait := phases.service("loader", "host_wait")) is not None:
            fetch_part *= min(1.0, host_wait / phases.mean(phases.steps("loader")))
    parts = {
        "compute": min(compute, computing),
        "contention": max(0.0, compute - computing),
        "fetch": (stall - transfer) * fetch_part,
        "prep": (stall - transfer) * (1 - fetch_part),
        "transfer": transfer,
    }
    return {name: 1000 * seconds for name, seconds in parts.items()}


def waits(phases: Phases, arm: str = "both") -> Values | None:
    """How long each step was inside next()."""
    if not (seconds := phases.waits(arm)):
        return None
    p50, p90, p99 = (1000 * value for value in statistics.percentiles(seconds, (50, 90, 99)))
    over = sum(value > TFDATA_LINE_US / 1e6 for value in seconds) / len(seconds)
    share = sum(seconds) / sum(map(sum, phases.steps(arm)))
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "over_50us": over, "share": share}


def queue(phases: Phases, capacity: int) -> Values | None:
    """How full the queue was when batches were asked for, and how often it was empty."""
    if not (ready := [value for phase in phases.of("both") for value in phase.ready]):
        return None
    return {
        "mean": sum(ready) / len(ready),
        "starved": ready.count(0),
        "requests": len(ready),
        "capacity": capacity,
    }


def read(phases: Phases, images_per_step: int, patch_bytes: int) -> Values | None:
    """Bytes asked from the system for an image of this rank, and how many times the patch that is."""
    told = [phase for phase in phases.of("loader") + phases.of("both") if phase.bytes_read is not None]
    if not told:
        return None
    images = images_per_step * sum(len(phase.step_us) for phase in told)
    per_image = sum(phase.bytes_read or 0 for phase in told) / images
    return {
        "bytes_per_image": per_image,
        "patch_bytes": patch_bytes,
        "amplification": per_image / patch_bytes,
    }


def utilisation(phases: Phases) -> float | None:
    """MLPerf Storage's AU: compute / running time of a window without its first step (its train metric)."""
    compute = [value for window in phases.compute("both") for value in window[1:]]
    total = [value for window in phases.steps("both") for value in window[1:]]
    return sum(compute) / sum(total) if total else None


def energy_per_image(phases: Phases, images_per_step: int) -> float | None:
    """Joules of this rank's device for one of its images, where the device tells."""
    told = [phase for phase in phases.of("both") if phase.energy_j is not None]
    images = images_per_step * sum(len(phase.step_us) for phase in told)
    return sum(phase.energy_j or 0.0 for phase in told) / images if images else None


def _seconds(microseconds: Sequence[int]) -> list[float]:
    return [value / 1e6 for value in microseconds]
