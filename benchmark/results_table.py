"""``python -m benchmark results``: the table of all results, results/README.md, from their folders.

A result is a folder ``<date>_<suite>_<machine>_<commit>`` with ``record.json`` and ``notes.md``, whose first
line is a heading that says what was found; where there is a ``report.html``, it is linked.
"""

import argparse
from pathlib import Path

from benchmark.environment import ROOT
from benchmark.record import read_record

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
    title = (folder / "notes.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    page = f" ([page]({folder.name}/report.html))" if (folder / "report.html").exists() else ""
    machine = record.environment
    accelerators = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    commit = machine.get("commit", "unknown")[:9] + (" (modified)" if machine.get("dirty") else "")
    cpu = f"{machine['usable_cpus']} CPUs ({machine['cpu']}), {accelerators}"
    return f"| {record.date[:10]} | [{title}]({folder.name}/notes.md){page} | {cpu} | {commit} |\n"
