"""The logs of a result together: are they forty runs of one thing, and do they converge as they may?"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.mllog import rules
from benchmark.mllog.score import DROPPED, RUNS, official_mean
from benchmark.submission.objections import Objection
from benchmark.submission.one_log import RunFile
from runtime.mlperf_arguments import in_samples
from runtime.rcp import Bar, bar, load_rcps, pruned

SUBMISSION = ("submission_org", "submission_platform", "submission_status")
"""Keys that identify the submission, beside the settings of ``rules.FREE``."""

SAME = "keep the runs of one setting and make the others again"


@dataclass(frozen=True)
class Convergence:
    """Samples to converge (epochs before ruleset 3.1.0), beside the reference convergence point."""

    mean: float
    """Without the four fastest and four slowest runs; runs that did not converge are the slowest."""
    bar: Bar
    unit: str

    @property
    def too_fast(self) -> bool:
        """Whether rcp_checker refuses it."""
        # The checker's search for the least mean ends within 1e-4 of it.
        return self.mean < self.bar.min_mean + 1e-3


def convergence(runs: Sequence[RunFile], ruleset: str) -> Convergence | None:
    """None where too few converged, batch sizes differ, or no reference point is to be compared with."""
    batches = {run.log.value("global_batch_size") for run in runs}
    unconverged = sum(run.convergence is None for run in runs)
    mean = official_mean((run.convergence for run in runs if run.convergence is not None), unconverged)
    if mean is None or len(batches) != 1 or not isinstance(batch := batches.pop(), int):
        return None
    found = bar(ruleset, batch)
    if found.kind == "missing":
        return None
    return Convergence(mean, found, "samples" if in_samples(ruleset) else "epochs")


def of_set(folder: Path, runs: Sequence[RunFile], files: int, ruleset: str) -> Iterator[Objection]:
    """What is wrong with the runs together.

    Args:
        folder: That holds the logs.
        runs: Those that could be read.
        files: How many logs there are, broken ones among them.
        ruleset: One of ``RULESETS``.
    """
    if files != RUNS:
        advice = (
            "make the others" if files < RUNS else "submit forty runs, and none that were chosen among more"
        )
        yield Objection("count", str(folder), f"{files} logs, expected {RUNS}", advice)
    for key in (*SUBMISSION, "opt_name", *rules.FREE):
        yield from _same(runs, key)
    yield from _seeds(runs)
    unconverged = sum(not run.run.converged for run in runs)
    for sentence in rules.too_many_unconverged(unconverged):
        yield Objection(
            "unconverged", str(folder), sentence, "find out why; all forty runs have to be made again"
        )
    yield from _convergence(folder, runs, ruleset)


def _same(runs: Sequence[RunFile], key: str) -> Iterator[Objection]:
    values = Counter(json.dumps(run.log.value(key)) for run in runs)
    if len(values) < 2:
        return
    (usual, count), *_ = values.most_common(1)
    for run in runs:
        if (value := json.dumps(run.log.value(key))) != usual:
            found = f"{key} is {value}, expected {usual} as in {count} of {len(runs)} logs"
            yield Objection("same settings", str(run.path), found, SAME)


def _seeds(runs: Sequence[RunFile]) -> Iterator[Objection]:
    first: dict[Any, RunFile] = {}
    for run in runs:
        seed = json.dumps(run.log.value("seed"))
        if seed == "null":
            continue
        other = first.setdefault(seed, run)
        if other is not run:
            found = f"seed {seed} is that of {other.path.name}, expected another one in each run"
            yield Objection("one seed", str(run.path), found, "make the run again with a seed of its own")


def _convergence(folder: Path, runs: Sequence[RunFile], ruleset: str) -> Iterator[Objection]:
    batches = {run.log.value("global_batch_size") for run in runs}
    for batch in sorted(batch for batch in batches if isinstance(batch, int)):
        if bar(ruleset, batch).kind == "missing":
            largest = max(point.batch_size for point in pruned(load_rcps(ruleset)))
            yield Objection(
                "convergence",
                str(folder),
                f"global_batch_size is {batch}, expected {largest} at most, where the reference convergence "
                f"points of ruleset {ruleset} end",
                "make the runs with a smaller one, or submit a point of your own first",
            )
    found = convergence(runs, ruleset)
    if found and found.too_fast:
        yield Objection(
            "convergence",
            str(folder),
            f"converges in {found.mean:,.0f} {found.unit} (mean without {DROPPED} runs at each end), "
            f"expected {math.ceil(found.bar.min_mean):,} at least by the reference convergence point for a "
            f"global batch size of {found.bar.batch_size}",
            "it trains otherwise than the reference: find out why, and make all runs again",
        )
