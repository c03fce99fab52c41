"""Reference convergence points: after how much training MLPerf's reference reaches the target, by batch size.

The numbers are those that ``mlperf_logging.rcp_checker`` carries; what is made of them is its statistics.
"""

import importlib.util
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from preprocess.spec import TRAIN_SAMPLES
from runtime.errors import RunError
from runtime.mlperf_arguments import in_samples

DROPPED = 4
"""Fastest and slowest runs that do not count, so many at each end."""
SUBMISSION_RUNS = 40
ALPHA = 0.05
"""Of the one-sided t-test by which a result is faster than its point."""


@dataclass(frozen=True)
class Rcp:
    """A published point. Runs, mean and bounds are in the unit that ``epoch_num`` has under the ruleset."""

    name: str
    batch_size: int
    runs: tuple[float, ...]
    """To the target, in ascending order."""
    hyperparameters: dict[str, Any]
    mean: float
    """Of the runs without ``DROPPED`` at each end."""
    stdev: float
    """Of all runs, and of the population."""
    min_mean: float
    """The least mean of a result that is not faster than the point."""


@dataclass(frozen=True)
class Bar:
    """What the checker compares a result with."""

    kind: Literal["found", "interpolated", "smallest", "missing"]
    """A point of this batch size; one between its neighbours; the smallest point, for results of a smaller
    batch; or nothing, for results of a larger batch than the largest, which the checker refuses."""
    batch_size: int
    """Of the point."""
    mean: float
    min_mean: float
    """Not numbers where there is nothing."""


@cache
def load_rcps(ruleset: str) -> tuple[Rcp, ...]:
    """All points of unet3d under a ruleset, by batch size.

    Raises:
        RunError: mlperf_logging is missing, or has no points for it.
    """
    found = importlib.util.find_spec("mlperf_logging")
    if found is None or not found.submodule_search_locations:
        raise RunError("reference convergence points come with mlperf_logging: pip install mlperf-logging")
    folder = Path(found.submodule_search_locations[0]) / "rcp_checker" / f"training_{ruleset}"
    try:
        content = json.loads((folder / "rcps_unet3d.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"mlperf_logging has no reference convergence points for ruleset {ruleset}") from error
    points = [_point(name, record) for name, record in content.items()]
    return tuple(sorted(points, key=lambda point: point.batch_size))


def _point(name: str, record: dict[str, Any]) -> Rcp:
    runs = sorted(float(run) for run in record["Epochs to converge"])
    counted = runs[DROPPED:-DROPPED]
    mean, stdev = statistics.fmean(counted), statistics.pstdev(runs)
    least = least_mean(mean, stdev, len(counted))
    return Rcp(name, record["BS"], tuple(runs), record["Hyperparams"], mean, stdev, least)


def least_mean(mean: float, stdev: float, runs: int) -> float:
    """The least mean of a result that the t-test does not find faster than a point of ``runs`` runs.

    The checker looks for it by bisection, with the point's standard deviation for both sides and 38 runs of
    the submission; this is where that ends.
    """
    # Comes with mlperf_logging, and takes its time to import.
    from scipy.stats import t as student

    submitted = SUBMISSION_RUNS - 2
    quantile = float(student.ppf(1 - ALPHA, runs + submitted - 2))
    return mean - quantile * stdev * math.sqrt(1 / runs + 1 / submitted)


def pruned(points: Sequence[Rcp]) -> tuple[Rcp, ...]:
    """Those that results are compared with: from the fastest on, without points slower than their
    neighbours' interpolation. In the checker's order, which does not look again at what it has passed."""
    fastest = min(points, key=lambda point: point.mean)
    kept = [point for point in points if point.batch_size >= fastest.batch_size]
    i = 1
    while i < len(kept) - 1:
        between, _ = _interpolated(kept[i].batch_size, kept[i - 1], kept[i + 1])
        if kept[i].mean > between:
            # Its right neighbour moves here; the checker goes on with that one.
            del kept[i]
        else:
            i += 1
    return tuple(kept)


def bar(ruleset: str, batch_size: int) -> Bar:
    """What a result of a global batch size is compared with.

    Raises:
        RunError: As `load_rcps`.
    """
    points = pruned(load_rcps(ruleset))
    for point in points:
        if point.batch_size == batch_size:
            return Bar("found", batch_size, point.mean, point.min_mean)
    below = [point for point in points if point.batch_size < batch_size]
    above = [point for point in points if point.batch_size > batch_size]
    if not below:
        return Bar("smallest", points[0].batch_size, points[0].mean, points[0].min_mean)
    if not above:
        return Bar("missing", batch_size, math.nan, math.nan)
    mean, stdev = _interpolated(batch_size, below[-1], above[0])
    return Bar("interpolated", batch_size, mean, least_mean(mean, stdev, 2 * SUBMISSION_RUNS))


def samples_to_converge(ruleset: str, point: Rcp) -> float:
    """The mean of a point in training samples, of whole epochs that are padded to the batch size where the
    ruleset counts epochs."""
    if in_samples(ruleset):
        return point.mean
    return point.mean * math.ceil(TRAIN_SAMPLES / point.batch_size) * point.batch_size


def _interpolated(batch_size: int, low: Rcp, high: Rcp) -> tuple[float, float]:
    """Mean and standard deviation between two points, linear in the batch size."""
    part = (batch_size - low.batch_size) / (high.batch_size - low.batch_size)
    return low.mean + part * (high.mean - low.mean), low.stdev + part * (high.stdev - low.stdev)
