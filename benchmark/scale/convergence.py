"""How many samples a run trains on, and how many evaluations it has, by MLPerf's reference points."""

import math
from dataclasses import dataclass

from preprocess.spec import TRAIN_SAMPLES
from runtime.mlperf_arguments import RULESETS, in_samples
from runtime.rcp import bar, load_rcps, pruned
from runtime.schedule import mlperf_evaluation

SAMPLE_RULESETS = tuple(ruleset for ruleset in RULESETS if in_samples(ruleset))
"""Points of the others count padded epochs, which do not interpolate."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """A run to the target on average."""

    samples: float
    """At its last evaluation."""
    first: float
    """Samples before the first evaluation."""
    every: float
    """Samples between evaluations."""
    remark: str = ""
    """Where the samples are from, if not from a reference point of this batch size."""

    @property
    def evaluations(self) -> float:
        """A mean over runs, so no whole number."""
        return 1 + (self.samples - self.first) / self.every


def smallest_and_largest(ruleset: str) -> tuple[int, int]:
    """Global batch sizes between which the reference points lie."""
    points = pruned(load_rcps(ruleset))
    return points[0].batch_size, points[-1].batch_size


def course(ruleset: str, global_batch: int) -> Course | None:
    """On the line through the reference points; None for a larger batch than the largest of them.

    Raises:
        RunError: mlperf_logging is missing.
    """
    found = bar(ruleset, global_batch)
    if found.kind == "missing":
        return None
    remarks = {
        "smallest": f"below the reference points: samples are those of global batch {found.batch_size}",
        "interpolated": "samples interpolated between reference points",
    }
    return course_of(global_batch, found.mean, remarks.get(found.kind, ""))


def course_of(global_batch: int, samples: float, remark: str = "") -> Course:
    """Of a run that takes ``samples``, or as many as come before the first evaluation."""
    epoch = math.ceil(TRAIN_SAMPLES / global_batch) * global_batch
    schedule = mlperf_evaluation(epoch)
    first, every = schedule.start * epoch, schedule.every * epoch
    return Course(samples=max(samples, first), first=first, every=every, remark=remark)
