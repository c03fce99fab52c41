"""The result files of a folder, in the order of their numbers."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.mllog.score import RUNS
from benchmark.submission.log_set import of_set
from benchmark.submission.objections import Objection
from benchmark.submission.one_log import RunFile, inspect_log
from pipelines.errors import DataError

RESULT = re.compile(r"result_(\d+)\.txt")


def number(path: Path) -> int:
    """The i of result_<i>.txt, -1 of any other file."""
    found = RESULT.fullmatch(path.name)
    return int(found[1]) if found else -1


def result_files(folder: Path) -> tuple[list[Path], list[Objection]]:
    """The logs ``result_<i>.txt`` of a folder by their numbers, and objections to others' names.

    Raises:
        DataError: There is no such folder, or no log in it.
        OSError: It cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder, expected one that holds result_<i>.txt of the runs")
    files = sorted(folder.glob("result_*.txt"), key=lambda path: (number(path), path.name))
    if not files:
        raise DataError(f"{folder} holds no result_<i>.txt, expected {RUNS} of them, the logs of the runs")
    objections = [
        Objection(
            "numbering", str(path), "is no result_<number>.txt, expected a number", "rename or remove it"
        )
        for path in files
        if number(path) < 0
    ]
    return files, objections


def inspect_logs(
    folder: Path, files: Sequence[Path], ruleset: str, *, rehearsal: bool = False
) -> tuple[list[RunFile], list[Objection]]:
    """The logs that can be read as runs, and all objections to them, one by one and together.

    Raises:
        DataError: A file cannot be read.
    """
    runs = []
    objections = []
    for file in files:
        try:
            run, found = inspect_log(file, ruleset, rehearsal=rehearsal)
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}), expected the log of a run") from error
        objections += found
        if run:
            runs.append(run)
    objections += of_set(folder, runs, len(files), ruleset)
    return runs, objections
