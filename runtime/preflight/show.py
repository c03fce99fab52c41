"""Findings for people: a table, and under it what to do about those that are not ok."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from runtime.preflight.finding import Finding, State

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.OFF: "bold red"}

_WIDTH = 120
"""Columns of a table that is not on a terminal."""


def show(findings: Sequence[Finding]) -> None:
    """Print them."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    table = Table("rule", "required", "found", "ok", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[1:3]:
        column.overflow = "fold"
    for finding in findings:
        cells = (escape(text) for text in (finding.rule, finding.required, finding.found))
        table.add_row(*cells, Text(finding.state, _STYLES[finding.state]))
    console.print(table)
    for finding in findings:
        if finding.state is not State.OK:
            print(f"{finding.rule} ({finding.state}): {finding.remedy} [{finding.source}]")
