"""The rates in a record that another record's can be compared with, and what they were measured of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.fingerprint import fingerprint
from benchmark.record import Record
from pipelines.errors import DataError
from runtime.statistics import Interval

ARMS = ("loader", "step", "both")
SUITES = ("profile", "benchmark-train", "sweep")
_ARRAYS = "step_us", "wait_us"


class Rate(NamedTuple):
    """Images per second; without an interval where there were too few steps."""

    interval: Interval | None
    remark: str
    """Why the window was not steady, or why there is no interval."""


@dataclass(frozen=True)
class Measured:
    """A profile, a benchmark, or a point of a sweep."""

    fingerprint: dict[str, str]
    rates: dict[str, Rate]
    """By arm."""
    reason: str = ""
    """Why there are no rates."""


def measured(record: Record, path: Path) -> dict[str, Measured]:
    """What ``record``, read from ``path``, holds: by the flags of a sweep's points, else one by "".

    Raises:
        DataError: A suite that is not compared, a profile that did not get to its end, or results that are
            not those of their suite.
    """
    if record.suite not in SUITES:
        raise DataError(f"{path} is of suite {record.suite}, and only {', '.join(SUITES)} can be compared")
    try:
        if record.suite == "sweep":
            return {_name(point["flags"]): _point(record, point) for point in record.results["points"]}
        if record.suite == "benchmark-train":
            return {"": Measured(fingerprint(record), {"both": _benchmark(record.results)})}
        if record.results["findings"] is None:
            raise DataError(f"{path} was interrupted before all arms were measured: measure again")
        return {"": Measured(fingerprint(record), _arms(record.results))}
    except DataError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} has no results as suite {record.suite} has them ({error!r}): was it edited?"
        ) from error


def without_steps(record: Record) -> Record:
    """The record without the times of single steps, of which a comparison takes none: its intervals stay."""
    results = {name: value for name, value in record.results.items() if name not in _ARRAYS}
    if "phases" in results:
        results["phases"] = [
            {name: [] if isinstance(value, list) else value for name, value in phase.items()}
            for phase in results["phases"]
        ]
    return replace(record, results=results)


def _name(flags: Mapping[str, str]) -> str:
    return " ".join(f"{name}={flags[name]}" for name in sorted(flags))


def _point(record: Record, point: Mapping[str, Any]) -> Measured:
    found = point["results"]
    own = fingerprint(replace(record, results=found or {}))
    if point["status"] != "ok":
        return Measured(own, {}, f"{point['status']} {point['reason']}".rstrip())
    return Measured(own, _arms(found))


def _arms(results: Mapping[str, Any]) -> dict[str, Rate]:
    rates = results["findings"]["rates"]
    return {arm: _rate(rates[arm], "images_per_s", "low", "high") for arm in ARMS if arm in rates}


def _benchmark(results: Mapping[str, Any]) -> Rate:
    name = "images_per_second"
    return _rate(results, name, f"{name}_low", f"{name}_high")


def _rate(values: Mapping[str, Any], *names: str) -> Rate:
    value, low, high = (values.get(name) for name in names)
    remark = values.get("unsteady_because", "")
    if value is None:
        raise KeyError(names[0])
    if low is None or high is None:
        return Rate(None, remark or "too few steps for an interval")
    if not 0 < low <= value <= high < math.inf:
        raise TypeError(f"{names[0]} is not within its interval")
    return Rate(Interval(float(value), float(low), float(high)), "" if values.get("steady", True) else remark)
