"""KiTS19-like cases for people without the data: ``python -m preprocess.phantom --help``."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from preprocess import pool
from preprocess.errors import UsageError
from preprocess.files import exclusive, remove_temporaries
from preprocess.flags import OneSentenceParser, positive
from preprocess.manifest import CaseRecord, Manifest
from preprocess.origin import Detail, describe, mark_phantom, open_manifest, read_origin, storage_note
from preprocess.phantom_case import PROFILES, VERSION, PhantomTask, write_preprocessed, write_raw
from preprocess.spec import (
    EVAL_SAMPLES,
    MAX_CASE_ID,
    MLPERF_STORAGE_DTYPE,
    STORAGE_FORMATS,
    TRAIN_SAMPLES,
    evaluation_ids,
)

BYTES_PER_WORKER = 512 << 20
"""What one worker may need: the labels of the largest case (160 MB), noise and the libraries."""


def phantom_ids(cases: int) -> list[int]:
    """The ids of ``cases`` phantoms, sorted: the first training and evaluation ids of the fixed split.

    One fifth, at least one, are evaluation cases; 210 cases give every id. Case 1 is always among them.

    Raises:
        UsageError: fewer than 2 or more than 210 cases.
    """
    if not 2 <= cases <= MAX_CASE_ID:
        raise UsageError(
            f"{cases} cases asked for; expected 2 (one to train, one to evaluate) to {MAX_CASE_ID}"
        )
    evaluation = sorted(evaluation_ids())
    training = sorted(set(range(MAX_CASE_ID)) - set(evaluation))
    share = max(1, round(cases * EVAL_SAMPLES / (EVAL_SAMPLES + TRAIN_SAMPLES)))
    return sorted(evaluation[:share] + training[: cases - share])


def make(task: PhantomTask) -> CaseRecord | None:
    """Write one case; its record where it is preprocessed."""
    if task.preprocessed:
        return write_preprocessed(task)
    write_raw(task)
    return None


def generate(tasks: Sequence[PhantomTask], workers: int) -> None:
    """Write all ``tasks`` in ``workers`` processes.

    There is at least one, and all have the same folder, seed, profile, kind and storage dtype.

    Raises:
        UsageError: the folder holds other data, or a worker was killed.
        OSError: the disk refuses.
        KeyboardInterrupt: after the workers have stopped.
    """
    out, preprocessed = tasks[0].out, tasks[0].preprocessed
    with exclusive(out):
        manifest = _claim(tasks[0])
        _clear(tasks)
        try:
            _make_all(tasks, workers, manifest)
        finally:
            _clear(tasks)
        if preprocessed:
            manifest.save(out)


def _make_all(tasks: Sequence[PhantomTask], workers: int, manifest: Manifest) -> None:
    for number, (task, future) in enumerate(pool.run(make, tasks, workers), start=1):
        try:
            record = future.result()
        except BrokenProcessPool as error:
            reason = "a worker was killed from outside, most often for lack of memory"
            raise UsageError(f"{reason}; run again with fewer --workers") from error
        if record is not None:
            manifest.cases[task.name] = record
        print(f"{task.name} ({number} of {len(tasks)})", flush=True)


def _clear(tasks: Sequence[PhantomTask]) -> None:
    """Remove what killed workers left in the case folders."""
    for task in tasks:
        remove_temporaries(task.out / task.name)


def _claim(task: PhantomTask) -> Manifest:
    """Mark the folder as holding this phantom; the manifest to add preprocessed cases to."""
    detail: Detail = {"seed": task.seed, "profile": task.profile, "version": VERSION}
    if task.preprocessed:
        detail |= {"painted": "x".join(map(str, task.shape)) if task.shape else "at target spacing"}
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
    result.add_argument("--cases", type=int, default=10, help="how many, 2 to 210 (default: 10)")
    result.add_argument("--seed", type=int, default=0, help="0 or above (default: 0)")
    result.add_argument(
        "--profile",
        choices=PROFILES,
        default="tiny",
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
        "--storage_dtype",
        choices=STORAGE_FORMATS,
        default=MLPERF_STORAGE_DTYPE,
        help="how to store --preprocessed images; float16 halves them (default: float32)",
    )
    result.add_argument(
        "--workers", type=positive, help="processes (default: usable CPUs, bounded by free memory)"
    )
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    flags = parser()
    options = flags.parse_args(arguments)
    if options.shape and not options.preprocessed:
        flags.error("--shape goes with --preprocessed")
    if options.storage_dtype != MLPERF_STORAGE_DTYPE and not options.preprocessed:
        flags.error("--storage_dtype goes with --preprocessed")
    if options.seed < 0:
        flags.error("--seed is 0 or above")
    shape = tuple(options.shape) if options.shape else None
    kind = options.preprocessed, shape, options.storage_dtype
    try:
        tasks = [
            PhantomTask(options.out, case_id, options.seed, options.profile, *kind)
            for case_id in phantom_ids(options.cases)
        ]
        generate(tasks, options.workers or pool.default_workers(BYTES_PER_WORKER))
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
