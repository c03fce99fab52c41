"""A log line by line, as the official checkers see it: they are stricter than a reader needs to be."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.mllog.log import TOKEN, as_number
from benchmark.submission.objections import Objection
from pipelines.errors import DataError

STRAY = {
    "eval_accuracy": "eval_accuracy",
    "eval_error": None,
    "global_batch_size": "global_batch_size",
    "submission_benchmark": "submission_benchmark",
}
"""Words that rcp_checker looks for in the text of a line, and the one key that may go with each."""

AGAIN = "do not edit logs, make the run again"


class Line(NamedTuple):
    """One event."""

    number: int
    """Counted from 1."""
    text: str
    """Its JSON."""
    time_ms: float
    key: str
    value: Any
    metadata: Mapping[str, Any]


def read_lines(path: Path) -> tuple[tuple[Line, ...], list[Objection]]:
    """The events of a log in the order of the file, and what is wrong with lines.

    Raises:
        OSError: The file cannot be read.
    """
    lines = []
    objections = []
    # Their encoding, and their ends of lines: a progress bar's carriage return ends one, too.
    with path.open(encoding="latin-1") as file:
        for number, text in enumerate(file, 1):
            if TOKEN not in text:
                continue
            try:
                lines.append(_line(number, text))
            except DataError as error:
                objections.append(Objection("lines", str(path), f"line {number} {error}", AGAIN))
    for line in lines:
        objections += [Objection("stray words", str(path), found, AGAIN) for found in _stray(line)]
    return tuple(lines), objections


def _line(number: int, line: str) -> Line:
    """
    Raises:
        DataError: It is none; what is wrong, without the place.
    """
    if line.count(TOKEN) > 1:
        raise DataError(f"holds {line.count(TOKEN)} {TOKEN} events, expected one: the checkers see the last")
    _, _, rest = line.partition(TOKEN)
    if not rest.startswith(" "):
        raise DataError(f"has no blank after {TOKEN}, expected one: the checkers do not see this event")
    text = rest.strip()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is cut or garbled ({error}), expected {TOKEN} and a JSON object") from error
    if not isinstance(content, dict):
        raise DataError(f"holds {text[:40]}, expected a JSON object")
    if missing := {"time_ms", "key", "value", "metadata"} - set(content):
        raise DataError(
            f"has no {' and no '.join(sorted(missing))}, expected time_ms, key, value and metadata"
        )
    key, time_ms, metadata = content["key"], content["time_ms"], content["metadata"]
    if not isinstance(key, str) or not isinstance(metadata, dict):
        raise DataError("has a key that is no text or metadata that are no table, expected both")
    if as_number(time_ms) is None:
        raise DataError(f"has time_ms {str(time_ms)[:40]!r}, expected a number of milliseconds")
    return Line(number, text, float(time_ms), key, content["value"], metadata)


def _stray(line: Line) -> Iterator[str]:
    for word, key in STRAY.items():
        if word in line.text and line.key != key:
            wanted = f"in events {key} alone" if key else "in none"
            what = f"has the word {word} in it, which rcp_checker takes for an event"
            yield f"line {line.number} ({line.key}) {what}, expected it {wanted}"
