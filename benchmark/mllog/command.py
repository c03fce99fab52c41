"""``python -m benchmark mllog``: what MLPerf unet3d result logs say, ours or anybody's, in numbers."""

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from benchmark.mllog.folders import logs_by_folder
from benchmark.mllog.log import TOKEN
from benchmark.mllog.result import METHOD, as_record, read_result
from benchmark.mllog.show import show
from benchmark.record import Record, write_record
from pipelines.errors import DataError
from preprocess.flags import positive
from preprocess.untrusted import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.epilog = (
        "Each folder's logs are one result. Deviations from the closed division's schedule and settings are "
        "named to explain the numbers; the judge of what is compliant is the official checker: python -m "
        "mlperf_logging.compliance_checker --usage training --ruleset 4.0.0 LOG."
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="FILE_OR_DIR",
        help=f"logs, or folders to search for result_*.txt, and for *.log with {TOKEN} lines",
    )
    parser.add_argument(
        "--gpus",
        type=positive,
        help="accelerators of the system (as systems/SYSTEM.json beside results/ has it, if there is one)",
    )
    parser.add_argument("--runs", action="store_true", help="also show each run of a result with a score")
    parser.add_argument("--json", type=Path, help="also write the record here")


def run(flags: argparse.Namespace) -> int:
    """Read and print; 1 where a log or a path could not be read.

    Raises:
        OSError: the record cannot be written.
    """
    by_folder, problems = logs_by_folder(flags.paths)
    results = []
    for folder, files in by_folder.items():
        try:
            result = read_result(folder, files, flags.gpus)
        except DataError as error:
            problems.append(str(error))
            continue
        if result.runs:
            problems += result.broken
            results.append(result)
        else:
            # A submission holds other benchmarks, too: one sentence for each folder of theirs.
            others = len(result.broken) - 1
            problems.append(result.broken[0] + (f" (and {others} more in its folder)" if others else ""))
    labels = Counter(result.label for result in results)
    results = [
        result if labels[result.label] == 1 else replace(result, label=str(result.folder))
        for result in results
    ]
    for problem in problems:
        print(f"python -m benchmark mllog: error: {printable(problem)}", file=sys.stderr)
    if results:
        show(results, flags.runs)
    if results and flags.json:
        record = Record(
            suite="mllog",
            command=["python", "-m", "benchmark", *sys.argv[1:]],
            results={"method": METHOD, "results": [as_record(result) for result in results]},
        )
        write_record(record, flags.json)
    return 1 if problems else 0
