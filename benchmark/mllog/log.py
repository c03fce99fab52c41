"""MLPerf result logs: the ``:::MLLOG`` lines of one run. Every other line is noise."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.errors import DataError, naming
from preprocess.untrusted import is_shallow, printable

TOKEN = ":::MLLOG"
BENCHMARK = "unet3d"

LARGEST = 1e15
"""Of a number: no run has so many samples, and of so many milliseconds there are 31,000 years. Sums, products
and quotients of such numbers are finite."""
_LINES = 1_000_000
"""Of a log: 10,000 epochs have a tenth of it."""
_LETTERS = 1 << 20
"""Of a line; what is longer is read in pieces."""
_LEVELS = 10
"""Of lists and objects within each other."""

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
        """The first value of ``key``, if that is a number as `as_number` wants it."""
        return as_number(self.value(key))

    def count(self, key: str) -> float | None:
        """The first value of ``key``, if that is a number of at least 1."""
        number = self.number(key)
        return number if number is not None and number >= 1 else None

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
        DataError: no ``:::MLLOG`` line or too many, a truncated one, another benchmark, no run_start or
            run_stop, or more than one run.
        OSError: the file cannot be read.
    """
    with naming(path), path.open(encoding="utf-8", errors="replace") as file:
        lines = enumerate(iter(lambda: file.readline(_LETTERS), ""), 1)
        events = tuple(islice((event for number, line in lines for event in _events(line, number)), _LINES))
        if len(events) == _LINES:
            raise DataError(f"holds {_LINES} {TOKEN} lines or more, expected the log of one run")
        if not events:
            raise DataError(f"holds no {TOKEN} line, expected the log of a run")
        for event in events:
            if event.key in ("submission_benchmark", "benchmark") and event.value != BENCHMARK:
                raise DataError(f"is a log of {_word(event.value)}, expected {BENCHMARK}")
        start, stop = _only("run_start", events), _only("run_stop", events)
        if stop.time_ms <= start.time_ms:
            raise DataError("has a run_stop that is not after its run_start, expected the log of one run")
        status = _word(stop.metadata.get("status", "not logged"))
        return Log(path, events, Interval(start.time_ms, stop.time_ms, {}), status)


def as_number(value: Any) -> float | None:
    """``value`` where it is a number up to ``LARGEST``, and no truth value."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
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
        DataError: one is truncated, lacks its time or key, or holds what no log does.
    """
    for piece in line.split(TOKEN)[1:]:
        try:
            content, _ = _JSON.raw_decode(piece.lstrip())
            # To a microsecond: what is shorter would make a rate without bound.
            time_ms = round(float(content["time_ms"]), 3)
            event = Event(time_ms, content["key"], content.get("value"), content.get("metadata") or {})
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise DataError(
                f"line {number} is a truncated or garbled {TOKEN} line, expected a JSON object with time_ms "
                "and key: the log of this run cannot be trusted"
            ) from error
        if not (abs(time_ms) <= LARGEST and isinstance(event.key, str) and isinstance(event.metadata, dict)):
            raise DataError(f"line {number} is a {TOKEN} line with a time, key or metadata of a wrong type")
        if not is_shallow(content, _LEVELS):
            raise DataError(f"line {number} is a {TOKEN} line of more than {_LEVELS} levels, expected a few")
        yield event


def _word(value: Any) -> str:
    """A value that should be a word, fit for a line of a terminal."""
    return printable(str(value))[:40]


def _only(key: str, events: tuple[Event, ...]) -> Event:
    found = [event for event in events if event.key == key]
    if not found:
        raise DataError(f"has no {key}: the run did not {'start' if key == 'run_start' else 'finish'}")
    if len(found) > 1:
        raise DataError(f"has {len(found)} {key}, expected one run for each file")
    return found[0]


def _epoch(event: Event) -> Any:
    return event.metadata.get("first_epoch_num", event.metadata.get("epoch_num"))
