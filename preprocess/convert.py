"""Find the raw cases, convert them in parallel, keep the manifest and report."""

import fcntl
import json
import os
import re
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from preprocess import pool
from preprocess.errors import CaseError, UsageError
from preprocess.manifest import CaseRecord, Manifest, ManifestError, Origin, spec_fingerprint
from preprocess.npy import remove_temporaries
from preprocess.spec import MAX_CASE_ID
from preprocess.task import CaseOutcome, CaseTask, work

BYTES_PER_WORKER = 1 << 30
"""What one worker may need: the largest KiTS19 case (611 x 512 x 512) keeps about 0.4 GB after the first two
axes, to which come its label, the libraries and the file that is being written."""

PHANTOM_MARKER = "phantom.json"
"""A raw folder that holds this file was made by ``preprocess.phantom``."""

_CASE = re.compile(r"case_(\d+)")
_CASE_FOLDERS = (".", "data", "kits19/data")


def find_cases(data_dir: Path) -> list[Path]:
    """The ``case_*`` folders in ``data_dir``, ``data_dir/data`` or ``data_dir/kits19/data``, sorted.

    Raises:
        UsageError: there is no such folder, or none holds a case.
    """
    if not data_dir.is_dir():
        raise UsageError(f"{data_dir} is not a folder; give the raw KiTS19 cases as --data_dir")
    for folder in (data_dir / name for name in _CASE_FOLDERS):
        if folder.is_dir():
            cases = sorted(path for path in folder.iterdir() if _CASE.fullmatch(path.name) and path.is_dir())
            if cases:
                return cases
    raise UsageError(
        f"no case_* folder in {data_dir}, {data_dir / 'data'} or {data_dir / 'kits19/data'}; "
        "download KiTS19, or make cases with python -m preprocess.phantom"
    )


def convert(data_dir: Path, results_dir: Path, workers: int) -> int:
    """Convert every case below 210 of ``data_dir`` into ``results_dir``.

    Cases that the manifest of ``results_dir`` proves complete and correct are kept. A case that cannot be
    converted is named on stderr and does not stop the others.

    Returns:
        The exit status: 0 when every case is there, 1 when one is not.

    Raises:
        UsageError: the run cannot start.
        KeyboardInterrupt: after the workers have stopped and their unfinished files are gone.
    """
    cases = find_cases(data_dir)
    wanted = [case for case in cases if int(case.name.split("_")[1]) < MAX_CASE_ID]
    for case in cases:
        if case not in wanted:
            print(f"{case.name}: skipped, cases from {MAX_CASE_ID} up have no public segmentation")
    if not wanted:
        raise UsageError(f"{data_dir} holds no case below {MAX_CASE_ID}")
    with exclusive(results_dir):
        manifest = _open_manifest(wanted[0].parent, results_dir)
        tasks = [CaseTask(case, results_dir, manifest.cases.get(case.name)) for case in wanted]
        run = _Run(results_dir, manifest, workers)
        # The bar goes to stderr; redraws around what is printed keep both readable.
        with tqdm(total=len(tasks), unit="case") as bar:
            for task, future in pool.run(work, tasks, workers, preload=["preprocess.case"]):
                run.take(task, future)
                bar.update()
        return run.report()


class _Run:
    """What came out so far."""

    def __init__(self, results_dir: Path, manifest: Manifest, workers: int) -> None:
        self._results_dir = results_dir
        self._manifest = manifest
        self._workers = workers
        self._done: list[CaseRecord] = []
        self._failed: list[str] = []
        self._killed: list[str] = []
        self._kept = 0
        self._exact = True

    def take(self, task: CaseTask, future: Future[CaseOutcome]) -> None:
        error = future.exception()
        if error is None:
            self._take_outcome(task.name, future.result())
        elif isinstance(error, BrokenProcessPool):
            self._killed.append(task.name)
        else:
            unexpected = (
                "" if isinstance(error, CaseError) else f"unexpected {type(error).__name__}, please report: "
            )
            self._failed.append(task.name)
            tqdm.write(f"{task.name}: {unexpected}{error}", file=sys.stderr)

    def _take_outcome(self, name: str, outcome: CaseOutcome) -> None:
        record = outcome.record
        self._done.append(record)
        self._exact &= outcome.exact
        if outcome.kept:
            self._kept += 1
        else:
            self._manifest.cases[name] = record
            self._manifest.save(self._results_dir)
        d, h, w = record.shape
        kept = " (kept)" if outcome.kept else ""
        tqdm.write(
            f"{name}: shape 1x{d}x{h}x{w} mean {record.mean:.2f} std {record.std:.2f}{kept}", file=sys.stdout
        )

    def report(self) -> int:
        """Print the medians and what is missing; the exit status."""
        if self._done:
            middle = [
                statistics.median(values) for values in zip(*(_numbers(r) for r in self._done), strict=True)
            ]
            mean, std, d, h, w = middle
            print(f"median of {len(self._done)} cases: mean {mean:.2f} std {std:.2f} d {d:g} h {h:g} w {w:g}")
        if self._kept:
            print(f"{self._kept} cases were complete and correct already")
        if not self._exact:
            print(
                "note: this build of torch rounds its interpolation in another way than the published files; "
                "images may differ from the md5 table in the last bits, labels do not"
            )
        if self._killed:
            print(
                f"a worker was killed from outside, most often for memory; {len(self._killed)} cases unfinished "
                f"({', '.join(sorted(self._killed))}); finished cases are kept, run again with --workers "
                f"{max(1, self._workers // 2)}",
                file=sys.stderr,
            )
        if self._failed:
            print(f"{len(self._failed)} cases failed: {', '.join(sorted(self._failed))}", file=sys.stderr)
        return 1 if self._failed or self._killed else 0


def _numbers(record: CaseRecord) -> tuple[float, ...]:
    return (record.mean, record.std, *record.shape)


@contextmanager
def exclusive(results_dir: Path) -> Iterator[None]:
    """Create the folder, keep other runs out of it, and leave no unfinished file in it, whatever happens."""
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(results_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"cannot write to {results_dir}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_temporaries(results_dir)
        try:
            yield
        finally:
            remove_temporaries(results_dir)
    except BlockingIOError as error:
        raise UsageError(
            f"another run is writing to {results_dir}; wait for it, or give another folder"
        ) from error
    finally:
        os.close(descriptor)


def _open_manifest(raw_dir: Path, results_dir: Path) -> Manifest:
    """The manifest to add to: the one on disk where it fits, else an empty one."""
    origin, detail = _origin(raw_dir)
    fresh = Manifest(origin, detail)
    try:
        found = Manifest.load(results_dir)
    except ManifestError as error:
        print(f"note: {error}; every case is converted again", file=sys.stderr)
        return fresh
    if found is None or not found.cases:
        return fresh
    if (found.origin, found.origin_detail) != (origin, detail):
        raise UsageError(
            f"{results_dir} holds {found.origin} data {found.origin_detail or ''} and {raw_dir} is {origin} "
            f"{detail or ''}; give another --results_dir, or empty this one"
        )
    if found.spec != spec_fingerprint():
        print("note: the cases here were made to another specification; every case is converted again")
        return fresh
    return found


def _origin(raw_dir: Path) -> tuple[Origin, dict[str, str | int]]:
    marker = raw_dir / PHANTOM_MARKER
    if not marker.is_file():
        return "kits19", {}
    try:
        return "phantom", dict(json.loads(marker.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{marker} is damaged ({error}); make the phantom again") from error
