"""What is known of the points of a sweep, and the records that say it."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmark.profile.phases import Phase
from benchmark.profile.summary import Context, results
from benchmark.profile.verdict import NEGLIGIBLE
from benchmark.record import Record, read_record, write_record
from benchmark.sweep.grid import Flags


def point_name(number: int) -> str:
    """The file name of a point's record, without its ending."""
    return f"point-{number + 1:03d}"


def merged(parts: Sequence[Path]) -> Record:
    """One record of the repetitions of a point: all their phases, and what follows from them.

    Raises:
        DataError: a file is no record.
    """
    records = [read_record(path) for path in parts]
    first = records[0]
    context = Context(**{field.name: first.results[field.name] for field in fields(Context)})
    phases = [
        Phase(**(phase | {"process": process}))
        for process, record in enumerate(records)
        for phase in record.results["phases"]
    ]
    found = results(context, phases, first.results["findings"]["ranks"] or [])
    extra = {name: value for name, value in first.results.items() if name not in found}
    return replace(first, results=found | extra)


def summary(
    folder: Path, points: Sequence[Flags], parts: Sequence[Sequence[Path]], reasons: dict[int, str]
) -> list[dict[str, Any]]:
    """Writes each point's record; what the sweep's own record says of the points.

    Args:
        folder: Of the sweep.
        points: All of them.
        parts: For each point the records of its repetitions so far.
        reasons: Why points failed.
    """
    found = []
    for number, (flags, done) in enumerate(zip(points, parts, strict=True)):
        entry: dict[str, Any] = {
            "flags": flags,
            "status": "missing",
            "reason": "",
            "record": None,
            "results": None,
        }
        if number in reasons:
            entry |= {"status": "failed", "reason": reasons[number]}
        elif done:
            record = merged(done)
            name = f"{point_name(number)}.json"
            write_record(record, folder / name)
            entry |= {"status": "ok", "record": name, "results": record.results | {"phases": []}}
        found.append(entry)
    return found


def workers_that_do(points: Sequence[dict[str, Any]]) -> list[str]:
    """For each other combination of flags: the fewest ``num_workers`` measured without a real stall."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[int, float]]] = {}
    for point in points:
        if point["status"] == "ok" and "num_workers" in point["flags"]:
            others = tuple((k, v) for k, v in point["flags"].items() if k != "num_workers")
            stall = point["results"]["findings"]["data_stall"]["value"]
            groups.setdefault(others, []).append((int(point["flags"]["num_workers"]), stall))
    said = []
    for others, measured in groups.items():
        where = f"with {' '.join(f'{k}={v}' for k, v in others)} " if others else ""
        enough = sorted(workers for workers, stall in measured if stall < NEGLIGIBLE)
        if enough:
            said.append(
                f"{where}{enough[0]} workers remove the stall (measured: below {100 * NEGLIGIBLE:.0f} %)"
            )
        else:
            best = min(measured, key=lambda each: each[1])
            said.append(
                f"{where}no measured number of workers does: {best[0]} leave a stall of {100 * best[1]:.0f} %"
            )
    return said
