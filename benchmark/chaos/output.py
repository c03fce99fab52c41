"""Records with their notes, and tables for both a terminal and notes."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.chaos.mounts import INSIDE
from benchmark.environment import ROOT
from benchmark.record import Record, write_record
from runtime.files import set_aside

Table = Sequence[Sequence[str]]
"""Lines of cells, the first of them the heading."""


def command_of(argv: Sequence[str]) -> list[str]:
    """What was typed, for a record."""
    return ["python", "-m", "benchmark", *(word for word in argv if word != INSIDE)]


def write_result(record: Record, notes: str, out: Path | None) -> Path:
    """Write ``record.json`` and ``notes.md``; the folder: ``out``, or a new one among the results.

    Raises:
        OSError: They cannot be written.
    """
    machine = f"{record.environment['usable_cpus']}cpu"
    commit = record.environment.get("commit", "unknown")[:9]
    folder = out or ROOT / "results" / f"{record.date[:10]}_{record.suite}_{machine}_{commit}"
    set_aside(folder / "record.json")
    write_record(record, folder / "record.json")
    temporary = folder / ".notes.md.tmp"
    temporary.write_text(notes, encoding="utf-8")
    temporary.replace(folder / "notes.md")
    return folder


def plain(table: Table) -> list[str]:
    """Its lines, in columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]


def markdown(table: Table) -> str:
    """As notes have it."""
    head, *rest = table
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))
