"""Which files are the logs of one result, what it is called, and how many accelerators its system has."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.mllog.log import LARGEST, TOKEN
from pipelines.errors import DataError

PATTERNS = ("result_*.txt", "*.log")
"""Of the logs in a folder; a submission's other *.log files hold no MLLOG line and are passed over."""

_NOT_AS_EXPECTED = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What reading a number from somebody's JSON may end in."""


@dataclass(frozen=True)
class Accelerators:
    """How many there are, and who says so; or None, and what to do about it."""

    count: int | None
    source: str


def logs_by_folder(paths: Iterable[Path]) -> tuple[dict[Path, list[Path]], list[str]]:
    """The logs of ``paths``, files or folders, by the folder that holds them; and what is wrong with paths.

    A folder's are those of ``PATTERNS`` in it and below. result_2.txt stands before result_10.txt.
    """
    found: set[Path] = set()
    problems = []
    for path in paths:
        if path.is_dir():
            logs = {log for pattern in PATTERNS for log in path.rglob(pattern) if _is_log(log)}
            if not logs:
                wanted = " and no ".join(PATTERNS)
                problems.append(f"{path} holds no {wanted} with {TOKEN} lines, expected logs of runs")
            found |= logs
        elif path.exists():
            found.add(path)
        else:
            problems.append(f"{path} does not exist, expected a log or a folder of logs")
    by_folder: dict[Path, list[Path]] = {}
    for log in sorted(found, key=lambda log: (log.parent, len(log.name), log.name)):
        by_folder.setdefault(log.parent, []).append(log)
    return by_folder, problems


def label(folder: Path) -> str:
    """ORGANISATION/SYSTEM in the layout of the public repositories; elsewhere the folder as it was given."""
    system = _system(folder)
    return f"{system.parent.parent.name}/{system.stem}" if system else str(folder)


def accelerators(folder: Path, given: int | None) -> Accelerators:
    """Those of the system whose logs ``folder`` holds: as ``given``, or as its description has it.

    The description is ``ORGANISATION/systems/SYSTEM.json`` for ``ORGANISATION/results/SYSTEM/unet3d``, and
    its number_of_nodes * accelerators_per_node are what counts.
    """
    if given:
        return Accelerators(given, "--gpus")
    system = _system(folder)
    if system is None or not system.is_file():
        where = f"there is no {_short(system)}" if system else "no systems/SYSTEM.json beside results/"
        return Accelerators(None, f"{where}, give --gpus")
    try:
        description = json.loads(system.read_text(encoding="utf-8"))
        count = int(description["number_of_nodes"]) * int(description["accelerators_per_node"])
    except _NOT_AS_EXPECTED:
        count = 0
    if not 1 <= count <= LARGEST:
        return Accelerators(
            None, f"{_short(system)} gives no number_of_nodes and accelerators_per_node, give --gpus"
        )
    return Accelerators(count, _short(system))


def scaling_factor(folder: Path) -> float | None:
    """The factor by which the published time is longer than that of the logs, from ``scaling.json``.

    mlperf_logging's RCP checker writes it, from v3.1 on, where a result converges in fewer samples than the
    reference. None where there is none.

    Raises:
        DataError: the file holds no such factor.
    """
    file = folder / "scaling.json"
    if not file.is_file():
        return None
    try:
        factor = float(json.loads(file.read_text(encoding="utf-8"))["scaling_factor"])
    except _NOT_AS_EXPECTED as error:
        raise DataError(f"{file} holds no scaling_factor, expected what the RCP checker writes") from error
    if not 0 < factor <= LARGEST:
        raise DataError(f"{file} holds a scaling_factor of {factor:g}, expected a number above 0")
    return factor


def _is_log(path: Path) -> bool:
    if path.suffix != ".log" or not path.is_file():
        return path.is_file()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return any(TOKEN in line for line in file)
    except OSError:
        return True  # whoever reads it finds out why that cannot be done


def _system(folder: Path) -> Path | None:
    """Where the system is described, if the folder is ORGANISATION/results/SYSTEM/BENCHMARK."""
    system = folder.resolve().parent
    if system.parent.name != "results":
        return None
    return system.parent.parent / "systems" / f"{system.name}.json"


def _short(system: Path) -> str:
    return f"systems/{system.name}"
