"""A measurement as a file: what was run, where, and what came out."""

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.environment import describe

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measurement; everything is a plain value."""

    suite: str
    command: list[str]
    results: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    """What ran, where the command does not say it all."""
    environment: dict[str, Any] = field(default_factory=describe)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema_version: int = SCHEMA_VERSION


def to_json(record: Record) -> str:
    """A record as indented JSON; paths become strings."""
    return json.dumps(asdict(record), indent=2, default=str)


def report(suite: str, module: str, results: dict[str, Any], path: Path | None) -> None:
    """Print the record of a ``python -m module`` run and, where ``path`` is given, write it there."""
    record = Record(suite=suite, command=["python", "-m", module, *sys.argv[1:]], results=results)
    print(to_json(record))
    if path:
        write_record(record, path)


def write_record(record: Record, path: Path) -> None:
    """Write a record as JSON, whole or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(to_json(record) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_record(path: Path) -> Record:
    """Read what `write_record` wrote.

    Raises:
        ValueError: Not a record, or one of another schema version.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"{path}: not a benchmark record of schema version {SCHEMA_VERSION}")
    return Record(**content)
