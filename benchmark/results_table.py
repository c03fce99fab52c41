"""``python -m benchmark.report``: the table of all results, ``results/README.md``, from their folders.

A result is a folder ``<date>_<suite>_<machine>_<commit>`` with ``record.json`` and ``notes.md``, whose first
line is a heading that says what was found.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.environment import ROOT
from benchmark.record import read_record

HEAD = """# Results

Written by `python -m benchmark.report` from the folders beside it. Each holds `record.json` (every number,
the machine, the versions, the commit, the command) and `notes.md` (the method, and how to read it).

| date | result | machine | commit |
|---|---|---|---|
"""


def row(folder: Path) -> str:
    """One line of the table.

    Raises:
        OSError, ValueError: The folder lacks a file, or its record is none.
    """
    record = read_record(folder / "record.json")
    title = (folder / "notes.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    machine = record.environment
    accelerators = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    commit = machine.get("commit", "unknown")[:9] + (" (modified)" if machine.get("dirty") else "")
    cpu = f"{machine['usable_cpus']} CPUs ({machine['cpu']}), {accelerators}"
    return f"| {record.date[:10]} | [{title}]({folder.name}/notes.md) | {cpu} | {commit} |\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; 1 where a result is incomplete."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.report", description=HEAD.splitlines()[2])
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the results")
    results = parser.parse_args(arguments).results
    try:
        rows = [row(folder) for folder in sorted(results.iterdir()) if folder.is_dir()]
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    (results / "README.md").write_text(HEAD + "".join(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
