"""KiTS19-like cases for people without the data: ``python -m preprocess.phantom --help``."""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from preprocess import pool
from preprocess.errors import UsageError
from preprocess.files import exclusive, remove_temporaries
from preprocess.flags import OneSentenceParser, positive
from preprocess.manifest import CaseRecord, Manifest
from preprocess.origin import Detail, describe, mark_phantom, open_manifest, read_origin, storage_note
from preprocess.phantom_case import (
    PROFILES,
    STORAGE_PROFILE,
    VERSION,
    PhantomTask,
    is_written,
    write_preprocessed,
    write_raw,
)
from preprocess.phantom_sizes import check_space, pair_bytes, phantom_ids, storage_shapes
from preprocess.spec import MLPERF_STORAGE_DTYPE, STORAGE_FORMATS

SAVE_EVERY_S = 5.0
"""Seconds between saves of the manifest: one after each of thousands of cases would take longer than they."""

BYTES_PER_WORKER = 512 << 20
"""What one worker may need: the labels of the largest case (160 MB), noise and the libraries."""


class Made(NamedTuple):
    """``record`` is None for a raw case; ``kept`` where an earlier run had written the case already."""

    record: CaseRecord | None
    kept: bool


def make(task: PhantomTask) -> Made:
    """Write one case, unless it is there."""
    if not task.preprocessed:
        write_raw(task)
        return Made(None, kept=False)
    if is_written(task):
        return Made(task.known, kept=True)
    return Made(write_preprocessed(task), kept=False)


def generate(tasks: Sequence[PhantomTask], workers: int, painted: str) -> None:
    """Write all ``tasks`` in ``workers`` processes; preprocessed cases that are there already are kept.

    There is at least one, and all have the same folder, seed, profile, kind and storage dtype; ``painted`` is
    what the manifest of preprocessed cases says of their sizes.

    Raises:
        UsageError: the folder holds other data, or a worker was killed.
        OSError: the disk refuses.
        KeyboardInterrupt: after the workers have stopped.
    """
    out = tasks[0].out
    with exclusive(out):
        manifest = _claim(tasks[0], painted)
        _clear(tasks)
        try:
            _make_all(
                [replace(task, known=manifest.cases.get(task.name)) for task in tasks], workers, manifest
            )
        finally:
            _clear(tasks)
            if manifest.cases:
                manifest.save(out)


def _make_all(tasks: Sequence[PhantomTask], workers: int, manifest: Manifest) -> None:
    saved = time.monotonic()
    for number, (task, future) in enumerate(pool.run(make, tasks, workers), start=1):
        try:
            record, kept = future.result()
        except BrokenProcessPool as error:
            reason = "a worker was killed from outside, most often for lack of memory"
            raise UsageError(f"{reason}; run again with fewer --workers") from error
        if record is not None:
            manifest.cases[task.name] = record
            if time.monotonic() - saved > SAVE_EVERY_S:
                manifest.save(task.out)
                saved = time.monotonic()
        print(f"{task.name} ({number} of {len(tasks)}){' kept' if kept else ''}", flush=True)


def _clear(tasks: Sequence[PhantomTask]) -> None:
    """Remove what killed workers left in the case folders."""
    for task in tasks:
        remove_temporaries(task.out / task.name)


def _claim(task: PhantomTask, painted: str) -> Manifest:
    """Mark the folder as holding this phantom; the manifest to add preprocessed cases to."""
    detail: Detail = {"seed": task.seed, "profile": task.profile, "version": VERSION}
    if task.preprocessed:
        detail |= {"painted": painted}
        manifest, note = open_manifest(task.out, "phantom", detail, task.storage_dtype)
        for line in filter(None, (note, storage_note(task.storage_dtype))):
            print(line)
        return manifest
    origin = read_origin(task.out)
    if any(task.out.glob("case_*")) and origin != ("phantom", detail):
        raise UsageError(f"{task.out} holds cases from {describe(*origin)}; give another --out")
    mark_phantom(task.out, detail)
    return Manifest("phantom", detail)


def parser() -> argparse.ArgumentParser:
    """The flags, with their defaults."""
    result = OneSentenceParser(
        prog="python -m preprocess.phantom",
        description="Make KiTS19-like cases: a body, a spine, two kidneys and tumours",
    )
    result.add_argument("--out", type=Path, required=True, help="the folder to write to")
    result.add_argument("--cases", type=int, help="how many, 2 to 210 (default: 10)")
    result.add_argument("--seed", type=int, default=0, help="0 or above (default: 0)")
    result.add_argument(
        "--profile",
        choices=PROFILES,
        help="tiny: about 128^3 after preprocessing, easy to learn; kits19: real sizes (default: tiny)",
    )
    result.add_argument(
        "--preprocessed", action="store_true", help="write .npy pairs instead of raw cases; needs numpy only"
    )
    result.add_argument(
        "--shape",
        type=positive,
        nargs=3,
        metavar=("D", "H", "W"),
        help="the shape of every --preprocessed case",
    )
    result.add_argument(
        "--total_gb",
        type=_gigabytes,
        metavar="GB",
        help="make as many --preprocessed cases as take this many 10^9 bytes, hard to compress and of the "
        "sizes of MLPerf Storage's U-Net3D (146.6 MB on average, standard deviation 68 MB, as float32); a "
        "fifth of them, at most 42, are for evaluation; to measure cold storage, let the training cases take "
        "5 times the memory",
    )
    result.add_argument(
        "--storage_dtype",
        choices=STORAGE_FORMATS,
        default=MLPERF_STORAGE_DTYPE,
        help="how to store --preprocessed images; float16 halves them (default: float32)",
    )
    result.add_argument(
        "--workers", type=positive, help="processes (default: usable CPUs, bounded by free memory)"
    )
    return result


def _gigabytes(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 10^9 bytes above 0")
    return number


def _check(flags: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program with one sentence where flags do not go together."""
    stores_otherwise = options.storage_dtype != MLPERF_STORAGE_DTYPE
    for flag, given in (
        ("shape", options.shape), ("storage_dtype", stores_otherwise), ("total_gb", options.total_gb)
    ):  # fmt: skip
        if given and not options.preprocessed:
            flags.error(f"--{flag} goes with --preprocessed")
    for flag in ("shape", "cases", "profile"):
        if options.total_gb and getattr(options, flag) is not None:
            flags.error(f"--total_gb decides on sizes, number and kind of the cases: drop --{flag}")
    if options.seed < 0:
        flags.error("--seed is 0 or above")


def _tasks(options: argparse.Namespace) -> tuple[list[PhantomTask], str]:
    """The cases that the flags ask for, and what the manifest says of their sizes."""
    kind = options.storage_dtype
    if options.total_gb:
        shapes = storage_shapes(options.total_gb * 1e9, options.seed, kind)
        tasks = [
            PhantomTask(options.out, case_id, options.seed, STORAGE_PROFILE, True, shape, kind)
            for case_id, shape in shapes.items()
        ]
        check_space(options.out, shapes, kind)
        total = sum(pair_bytes(shape, kind) for shape in shapes.values())
        print(f"{len(tasks)} cases of {total / 1e9:.3f} GB in all")
        return tasks, f"{options.total_gb:.15g} GB"
    shape = tuple(options.shape) if options.shape else None
    ids = phantom_ids(10 if options.cases is None else options.cases)
    profile = options.profile or PROFILES[0]
    tasks = [
        PhantomTask(options.out, case_id, options.seed, profile, options.preprocessed, shape, kind)
        for case_id in ids
    ]
    return tasks, "x".join(map(str, shape)) if shape else "at target spacing"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    flags = parser()
    options = flags.parse_args(arguments)
    _check(flags, options)
    try:
        tasks, painted = _tasks(options)
        generate(tasks, options.workers or pool.default_workers(BYTES_PER_WORKER), painted)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.strerror or error} ({error.filename or options.out})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
