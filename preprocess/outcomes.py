"""Collect what the workers hand back: keep the manifest, tell the reader."""

import statistics
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from preprocess.errors import CaseError
from preprocess.manifest import CaseRecord, Manifest
from preprocess.task import CaseOutcome, CaseTask


class Outcomes:
    """The outcomes of one run; the manifest on disk grows with every case, so that a killed run resumes."""

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
        """Record and display one finished case; a failed one is named on stderr with its reason."""
        error = future.exception()
        if error is None:
            self._take_outcome(task.name, future.result())
        elif isinstance(error, BrokenProcessPool):
            self._killed.append(task.name)
        else:
            known = isinstance(error, CaseError)
            reason = str(error) if known else f"unexpected {type(error).__name__}, please report it: {error}"
            self._failed.append(task.name)
            tqdm.write(f"{task.name}: {reason}", file=sys.stderr)

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
        line = f"{name}: shape 1x{d}x{h}x{w} mean {record.mean:.2f} std {record.std:.2f}{kept}"
        tqdm.write(line, file=sys.stdout)

    def report(self) -> int:
        """Print the medians and what is missing; the exit status, 0 when every case is there."""
        if self._done:
            numbers = zip(*((r.mean, r.std, *r.shape) for r in self._done), strict=True)
            mean, std, d, h, w = (statistics.median(values) for values in numbers)
            print(f"median of {len(self._done)} cases: mean {mean:.2f} std {std:.2f} d {d:g} h {h:g} w {w:g}")
        if self._kept:
            print(f"{self._kept} cases were complete and correct already")
        if not self._exact:
            print(
                "note: this build of torch rounds its interpolation in another way than expected; "
                "images may differ from the md5 table in the last bits, labels do not"
            )
        if self._killed:
            fewer = max(1, self._workers // 2)
            print(
                "a worker was killed from outside, most often for lack of memory; finished cases are kept, "
                f"run again with --workers {fewer}; unfinished: {', '.join(sorted(self._killed))}",
                file=sys.stderr,
            )
        if self._failed:
            print(f"{len(self._failed)} cases failed: {', '.join(sorted(self._failed))}", file=sys.stderr)
        return 1 if self._failed or self._killed else 0
