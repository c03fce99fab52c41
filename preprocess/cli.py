"""The command line of ``preprocess_dataset.py``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from preprocess import machine, pool
from preprocess.convert import BYTES_PER_WORKER, convert
from preprocess.errors import UsageError
from preprocess.flags import OneSentenceParser, positive
from preprocess.spec import MLPERF_STORAGE_DTYPE, STORAGE_FORMATS
from preprocess.verify import verify


def parser() -> argparse.ArgumentParser:
    """The flags, with their defaults."""
    result = OneSentenceParser(
        prog="preprocess_dataset.py",
        description="Convert raw KiTS19 cases to the .npy files of MLPerf U-Net3D, or verify them. "
        "Exit status: 0 all well, 1 a case failed or a file is wrong, 2 the run cannot start, 130 Ctrl-C",
    )
    result.add_argument(
        "--data_dir",
        type=Path,
        help="raw cases: a folder with case_*, data/case_* or kits19/data/case_* (required to preprocess)",
    )
    result.add_argument(
        "--results_dir", type=Path, required=True, help="where the .npy files are, or shall be"
    )
    result.add_argument(
        "--mode",
        choices=["preprocess", "verify"],
        default="preprocess",
        help="preprocess: convert what is not there yet; verify: compare with the published md5 table",
    )
    result.add_argument(
        "--storage_dtype",
        choices=STORAGE_FORMATS,
        default=MLPERF_STORAGE_DTYPE,
        help="how to store images: float32, as MLPerf prescribes, or float16, half the size but not MLPerf's "
        "files; verify finds it in the folder (default: float32)",
    )
    result.add_argument(
        "--workers",
        type=positive,
        help=f"processes (default: usable CPUs, one per {BYTES_PER_WORKER / 2**30:g} GiB of free memory)",
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    flags = parser()
    options = flags.parse_args(arguments)
    if options.mode == "preprocess" and options.data_dir is None:
        flags.error("--data_dir is required to preprocess")
    try:
        if options.mode == "verify":
            return verify(options.results_dir, options.workers or machine.usable_cpus())
        workers = options.workers or _choose_workers()
        return convert(options.data_dir, options.results_dir, workers, options.storage_dtype)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.strerror or error} ({error.filename or options.results_dir})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished cases are kept, run again to go on", file=sys.stderr)
        return 130


def _choose_workers() -> int:
    workers, gib = pool.default_workers(BYTES_PER_WORKER), BYTES_PER_WORKER / 2**30
    free = machine.available_memory() / 2**30
    print(f"{workers} workers ({machine.usable_cpus()} usable CPUs; {free:.1f} GiB free, {gib:g} for each)")
    return workers
