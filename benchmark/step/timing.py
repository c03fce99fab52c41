"""What timed steps say: rates and peaks beside the reference's, and whether all compute the same."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.step.claims import Claim, at_least, below
from benchmark.step.contenders import REFERENCE
from benchmark.step.turns import Course, Steps
from runtime.statistics import MIN_PAIRS, paired_ratio

AGREEING_STEPS = 3
"""So many first steps of all contenders have the same loss; later ones drift apart as roundings grow."""
LOSS_TOLERANCE = 1e-4
"""Relative, of losses that float32 sums in another order."""


def time_findings(found: Mapping[str, Sequence[Steps]], course: Course, batch_size: int) -> dict[str, Any]:
    """Of one batch size."""
    contenders = {name: _contender(runs, course, batch_size) for name, runs in found.items()}
    reference = contenders.get(REFERENCE)
    for name, own in contenders.items():
        if reference and name != REFERENCE:
            own["speed_ratio"] = _ratio(own["images_per_s"], reference["images_per_s"])
            own["peak_ratio"] = own["median_peak_bytes"] / reference["median_peak_bytes"]
    return {"batch_size": batch_size, "contenders": contenders, "agreement": agreement(found)}


def _contender(runs: Sequence[Steps], course: Course, batch_size: int) -> dict[str, Any]:
    counted = [run.seconds[course.warmup :] for run in runs]
    return {
        "seconds": counted,
        "cpu_seconds": [run.cpu_seconds[course.warmup :] for run in runs],
        "losses": [[_or_none(loss) for loss in run.losses] for run in runs],
        "peak_bytes": [run.peak_bytes for run in runs],
        "images_per_s": [batch_size * len(seconds) / sum(seconds) for seconds in counted],
        "median_step_s": statistics.median(second for seconds in counted for second in seconds),
        "median_cpu_s": statistics.median(s for run in runs for s in run.cpu_seconds[course.warmup :]),
        "median_peak_bytes": statistics.median(run.peak_bytes for run in runs),
    }


def _ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float | None]:
    """Of the rates of neighbours; too few rounds have no interval."""
    if len(over) >= MIN_PAIRS:
        return dict(paired_ratio(over, under)._asdict())
    value = statistics.median(mine / theirs for mine, theirs in zip(over, under, strict=True))
    return {"value": value, "low": None, "high": None}


def agreement(found: Mapping[str, Sequence[Steps]]) -> dict[str, Any]:
    """How far the losses of each of the first steps lie apart over all processes, relative to the largest."""
    # Steps x processes.
    losses = np.array([run.losses[:AGREEING_STEPS] for runs in found.values() for run in runs]).T
    with np.errstate(invalid="ignore"):
        apart = [_or_none(float(step)) for step in np.ptp(losses, axis=1) / np.abs(losses).max(axis=1)]
    return {
        "tolerance": LOSS_TOLERANCE,
        "differences": apart,
        "agree": all(difference is not None and difference <= LOSS_TOLERANCE for difference in apart),
    }


def _or_none(value: float) -> float | None:
    """JSON has no form for what is no number."""
    return value if math.isfinite(value) else None


def time_claims(batches: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Each of ours at least as fast as the reference, and with less peak memory."""
    made = []
    for batch in batches:
        for name, own in batch["contenders"].items():
            if "speed_ratio" in own:
                who = f"{name}, batch {batch['batch_size']}"
                made.append(at_least(f"{who}: at least the reference's images/s", own["speed_ratio"], 1.0))
                made.append(below(f"{who}: less peak memory than the reference", own["peak_ratio"], 1.0))
    return made
