"""A measurement as a file: what was run, where, and what came out."""

import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT, describe
from pipelines.errors import DataError
from preprocess.untrusted import is_shallow

SCHEMA_VERSION = 1
"""Of the envelope and of the results in ``record_schema.json`` beside this file."""

LARGEST = 1 << 28
"""Bytes of a record; the times of a million steps are a twentieth of it."""
LEVELS = 40
"""Of lists and objects within each other."""

_KINDS = {
    "suite": str, "command": list, "results": dict, "config": dict, "environment": dict, "date": str,
    "schema_version": int,
}  # fmt: skip

_NUMBERS = re.compile(r"\[\n([-+.\deE,\s]*)\]")
"""An indented array of nothing but numbers; no string has such a line break, JSON writes it as ``\\n``."""


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
    """A record as indented JSON, an array of numbers on one line; paths become strings, relative to this
    repository where they are in it."""
    text = json.dumps(asdict(record), indent=2, default=as_text)
    return _NUMBERS.sub(lambda array: f"[{' '.join(array[1].split())}]", text)


def as_text(value: Any) -> str:
    """What JSON has no form for; a path of this repository relative to it."""
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        return str(value.relative_to(ROOT))
    return str(value)


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
    """Read what `write_record` wrote: ``path``, or the ``record.json`` of a folder.

    Nothing in it is trusted but its form: texts may hold anything, and numbers may be infinite or no numbers.

    Raises:
        DataError: Not a record, one of another schema version, or one that is too large or too deep.
        OSError: There is no such file.
    """
    if path.is_dir():
        path = path / "record.json"
    with path.open("rb") as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise DataError(f"{path} is larger than {LARGEST >> 20} MiB, which no record is")
    try:
        content = json.loads(text.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not JSON (line {error.lineno}: {error.msg}): was it cut short? measure again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text: expected the JSON that a benchmark wrote") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} holds a number or a list that no record has ({error})") from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise DataError(f"{path}: not a benchmark record: expected the JSON that a benchmark wrote")
    if (version := content["schema_version"]) != SCHEMA_VERSION:
        raise DataError(
            f"{path}: not a benchmark record of schema version {SCHEMA_VERSION} but of {version}: read it "
            "with the voxelrate that wrote it"
        )
    for name, kind in _KINDS.items():
        if not isinstance(content.get(name), kind):
            found = f"has a {name} that is none" if name in content else f"lacks {name}"
            raise DataError(f"{path} {found}: was it edited? measure again")
    if unknown := content.keys() - _KINDS.keys():
        raise DataError(f"{path} has {', '.join(sorted(unknown))}, which no record has: was it edited?")
    if not is_shallow(content, LEVELS):
        raise DataError(f"{path} has lists in lists deeper than {LEVELS} levels, which no record has")
    return Record(**content)
