"""Verdicts for people, and for programs beside the checkers' outputs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.submission.answers import Verdict
from benchmark.submission.objections import Objection, sentences
from preprocess.untrusted import printable
from runtime.files import set_aside


def show_objections(objections: Sequence[Objection]) -> None:
    """A line for each, and how many there are."""
    for sentence in sentences(objections):
        print(f"refused: {printable(sentence)}")


def show_verdicts(verdicts: Sequence[Verdict]) -> None:
    """A line for each checker."""
    width = max(len(verdict.tool) for verdict in verdicts)
    for verdict in verdicts:
        print(f"{verdict.tool.ljust(width)}  {verdict.line}")


def write_verdicts(
    folder: Path,
    verdicts: Sequence[Verdict],
    objections: Sequence[Objection],
    ruleset: str,
    *,
    rehearsal: bool,
) -> None:
    """All outputs, and verdicts.json; a folder of earlier ones is renamed to carry its time.

    Raises:
        OSError: Something cannot be written.
    """
    set_aside(folder)
    folder.mkdir(parents=True)
    for verdict in verdicts:
        for name, text in verdict.outputs.items():
            (folder / name).write_text(text, encoding="utf-8")
    content: dict[str, Any] = {
        "ruleset": ruleset,
        "rehearsal": rehearsal,
        "objections": [
            {"rule": one.rule, "where": one.where, "found": one.found, "advice": one.advice}
            for one in objections
        ],
        "tools": {
            verdict.tool: {
                "passed": verdict.passed,
                "says": verdict.says,
                "objections": list(verdict.objections),
            }
            for verdict in verdicts
        },
    }
    (folder / "verdicts.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
