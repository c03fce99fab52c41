"""``python -m benchmark results``: the table of all results, results/README.md, from their folders.

A result is a folder ``<date>_<suite>_<machine>_<commit>`` with ``record.json`` and ``notes.md``, whose first
line is a heading that says what was found; where there is a ``report.html``, it is linked.
"""

import argparse
import re
from pathlib import Path

from benchmark.environment import ROOT
from benchmark.record import read_record
from pipelines.errors import DataError
from preprocess.untrusted import printable

HEAD = """# Results

Written by `python -m benchmark results` from the folders beside it. Each holds `record.json` (every number,
the machine, the versions, the commit, the command) and `notes.md` (the method, and how to read it); some hold
a page to look at.

| date | result | machine | commit |
|---|---|---|---|
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the results")


def run(flags: argparse.Namespace) -> int:
    """Write the table.

    Raises:
        DataError, OSError: a result is incomplete, or the table cannot be written.
    """
    rows = [row(folder) for folder in sorted(flags.results.iterdir()) if folder.is_dir()]
    (flags.results / "README.md").write_text(HEAD + "".join(rows), encoding="utf-8")
    return 0


def row(folder: Path) -> str:
    """One line of the table.

    Raises:
        DataError, OSError: The folder lacks a file, or its record is none.
    """
    record = read_record(folder / "record.json")
    title = _cell((folder / "notes.md").read_text(encoding="utf-8").partition("\n")[0].lstrip("# "))
    page = f" ([page]({folder.name}/report.html))" if (folder / "report.html").exists() else ""
    machine = record.environment
    try:
        accelerators = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
        cpu = f"{machine['usable_cpus']} CPUs ({machine['cpu']}), {accelerators}"
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{folder}/record.json does not name the machine as records do ({error!r}): was it edited?"
        ) from error
    commit = str(machine.get("commit", "unknown"))[:9] + (" (modified)" if machine.get("dirty") else "")
    date, cpu, commit = map(_cell, (record.date[:10], cpu, commit))
    return f"| {date} | [{title}]({folder.name}/notes.md){page} | {cpu} | {commit} |\n"


def _cell(text: str) -> str:
    """On one line of a table in Markdown, with nothing that ends a cell or a link, or begins an element."""
    return re.sub(r"([\[\]<>|])", r"\\\1", printable(text))
