"""``python -m benchmark calibrate``: does the instrument find what was put in, on this machine?"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.calibrate import coverage, overhead
from benchmark.calibrate.attribution import ABSOLUTE_MS, RELATIVE, TRIALS, Attribution, attributions
from benchmark.record import Record, write_record
from preprocess.flags import positive

_BATCH = 7
"""Samples of the batch whose overhead is shown: MLPerf's on a GPU."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument(
        "--only", type=_names, default=list(TRIALS), help="trials, separated by ';' (default: all)"
    )
    parser.add_argument(
        "--simulations", type=positive, default=400, help="windows for the interval's coverage (400)"
    )
    parser.add_argument("--json", type=Path, help="also write a record here")


def run(flags: argparse.Namespace) -> int:
    """Print what was put in and what was found; 1 where they differ.

    Raises:
        OSError: the phantoms or the record cannot be written.
    """
    print(f"a part may be off by {100 * RELATIVE:.0f} % or {ABSOLUTE_MS:g} ms; milliseconds put in -> found")
    trials = []
    for attribution in attributions(flags.only):
        trials.append(attribution)
        print(_line(attribution), flush=True)
    covered = dict(coverage.coverages(flags.simulations))
    for name, share in covered.items():
        mark = "ok" if coverage.LOW <= share <= coverage.HIGH else "WRONG"
        print(f"{mark:5} 95 % interval of 200 steps, {name}: holds the truth {100 * share:.1f} % of the time")
    costs = overhead.per_step_us(_BATCH)
    total = sum(costs.values())
    listed = ", ".join(f"{name} {value:.1f}" for name, value in costs.items())
    mark = "ok" if total < overhead.LIMIT_US else "WRONG"
    print(f"{mark:5} measuring costs {total:.0f} us a step of {_BATCH} images, 1 % of 50 ms is "
          f"{overhead.LIMIT_US:.0f} ({listed})")  # fmt: skip
    wrong = sum(bool(trial.wrong) for trial in trials)
    wrong += sum(not coverage.LOW <= share <= coverage.HIGH for share in covered.values())
    wrong += total >= overhead.LIMIT_US
    if flags.json:
        found: dict[str, Any] = {
            "trials": [asdict(trial) | {"wrong": trial.wrong} for trial in trials],
            "coverage": covered,
            "overhead_us": costs,
        }
        command = ["python", "-m", "benchmark", *flags.argv]
        write_record(Record(suite="calibration", command=command, results=found), flags.json)
    print(
        f"{wrong} of {len(trials) + len(covered) + 1} checks failed"
        if wrong
        else "calibrated: all checks hold"
    )
    return 1 if wrong else 0


def _line(attribution: Attribution) -> str:
    parts = ", ".join(
        f"{part} {given:g} -> {found:.1f}"
        for part, (given, found) in attribution.parts.items()
        if given or found > 0.5
    )
    mark = "WRONG" if attribution.wrong else "ok"
    why = f"; {'; '.join(attribution.wrong)}" if attribution.wrong else ""
    again = f" at attempt {attribution.attempts}" if attribution.attempts > 1 else ""
    return f"{mark:5} {attribution.name}: {attribution.verdict}{again} ({parts}){why}"


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(";")]
    if unknown := [name for name in names if name not in TRIALS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {'; '.join(TRIALS)}")
    return names
