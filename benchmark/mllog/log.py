"""MLPerf result logs: the ``:::MLLOG`` lines of one run. Every other line is noise."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.errors import DataError, naming

TOKEN = ":::MLLOG"
BENCHMARK = "unet3d"

_JSON = json.JSONDecoder()


class Event(NamedTuple):
    """One ``:::MLLOG`` object."""

    time_ms: float
    """Milliseconds since 1970; lines that a submitter added by hand have 0."""
    key: str
    value: Any
    metadata: dict[str, Any]


class Interval(NamedTuple):
    """A start and its stop, in milliseconds since 1970, with the start's metadata."""

    start_ms: float
    stop_ms: float
    metadata: dict[str, Any]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.stop_ms - self.start_ms) / 1000

    def within(self, other: "Interval") -> bool:
        """Whether no part of it is outside ``other``."""
        return other.start_ms <= self.start_ms and self.stop_ms <= other.stop_ms


@dataclass(frozen=True)
class Log:
    """One run that started and stopped."""

    path: Path
    events: tuple[Event, ...]
    run: Interval
    """From ``run_start`` to ``run_stop``."""
    status: str
    """That of ``run_stop``: success, or aborted (some write abort); ``not logged`` where there is none."""

    def value(self, key: str) -> Any:
        """The first value of ``key``; None if it is not logged."""
        return next((event.value for event in self.events if event.key == key), None)

    def number(self, key: str) -> float | None:
        """The first value of ``key``, if that is a finite number."""
        return as_number(self.value(key))

    def during(self, key: str) -> list[Event]:
        """The events of ``key`` while the clock ran. NVIDIA's code trains on for a block after that."""
        return [
            event
            for event in self.events
            if event.key == key and self.run.start_ms <= event.time_ms <= self.run.stop_ms
        ]

    def intervals(self, name: str) -> list[Interval]:
        """Intervals ``name`` (block, epoch, eval) that ended while the clock ran.

        A stop belongs to the open start of the same epoch, because Google's blocks overlap in the log; else
        to the latest one, because some of NVIDIA's and Habana's stops carry the number of the last epoch.
        """
        opened: list[Event] = []
        found = []
        for event in self.events:
            if event.key == f"{name}_start":
                opened.append(event)
            elif event.key == f"{name}_stop" and opened:
                same = [start for start in opened if _epoch(start) == _epoch(event)]
                start = same[-1] if same else opened[-1]
                opened.remove(start)
                found.append(Interval(start.time_ms, event.time_ms, start.metadata))
        return [interval for interval in found if interval.within(self.run)]


def read_log(path: Path) -> Log:
    """The log of one unet3d run.

    Raises:
        DataError: no ``:::MLLOG`` line, a truncated one, another benchmark, no run_start or run_stop, or
            more than one run.
        OSError: the file cannot be read.
    """
    with naming(path), path.open(encoding="utf-8", errors="replace") as file:
        events = tuple(event for number, line in enumerate(file, 1) for event in _events(line, number))
        if not events:
            raise DataError(f"holds no {TOKEN} line, expected the log of a run")
        for event in events:
            if event.key in ("submission_benchmark", "benchmark") and event.value != BENCHMARK:
                raise DataError(f"is a log of {event.value}, expected {BENCHMARK}")
        start, stop = _only("run_start", events), _only("run_stop", events)
        if stop.time_ms <= start.time_ms:
            raise DataError("has a run_stop that is not after its run_start, expected the log of one run")
        status = str(stop.metadata.get("status", "not logged"))
        return Log(path, events, Interval(start.time_ms, stop.time_ms, {}), status)


def as_number(value: Any) -> float | None:
    """``value`` where it is a finite number and no truth value."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return None


def first_epoch(block: Interval) -> float:
    """The number that a block gives its first epoch; 0 if none."""
    return as_number(block.metadata.get("first_epoch_num")) or 0


def epoch_count(block: Interval) -> float:
    """The epochs of a block, or the samples, where a log counts these instead; 0 if it does not tell."""
    return as_number(block.metadata.get("epoch_count")) or 0


def _events(line: str, number: int) -> Iterator[Event]:
    """Those of a line: others' output may stand before, between and after them.

    Raises:
        DataError: one is truncated, or lacks its time or key.
    """
    for piece in line.split(TOKEN)[1:]:
        try:
            content, _ = _JSON.raw_decode(piece.lstrip())
            time_ms = float(content["time_ms"])
            event = Event(time_ms, content["key"], content.get("value"), content.get("metadata") or {})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"line {number} is a truncated or garbled {TOKEN} line, expected a JSON object with time_ms "
                "and key: the log of this run cannot be trusted"
            ) from error
        if not (math.isfinite(time_ms) and isinstance(event.key, str) and isinstance(event.metadata, dict)):
            raise DataError(f"line {number} is a {TOKEN} line with a time, key or metadata of a wrong type")
        yield event


def _only(key: str, events: tuple[Event, ...]) -> Event:
    found = [event for event in events if event.key == key]
    if not found:
        raise DataError(f"has no {key}: the run did not {'start' if key == 'run_start' else 'finish'}")
    if len(found) > 1:
        raise DataError(f"has {len(found)} {key}, expected one run for each file")
    return found[0]


def _epoch(event: Event) -> Any:
    return event.metadata.get("first_epoch_num", event.metadata.get("epoch_num"))
