"""Progress in sentences."""

from collections.abc import Iterator

from benchmark.mllog.score import DROPPED
from benchmark.submission.progress import Progress, Underway
from runtime.mlperf_arguments import in_samples
from runtime.rcp import bar


def sentences(progress: Progress, runs: int, ruleset: str) -> Iterator[str]:
    """What to tell of a series that is to have ``runs`` results.

    Args:
        progress: Of the series.
        runs: How many results it is to have.
        ruleset: One of ``RULESETS``.
    """
    unit = "samples" if in_samples(ruleset) else "epochs"
    yield from _counts(progress, runs)
    for run in progress.underway:
        yield _underway(run, unit)
    yield from progress.broken
    yield from _score(progress)
    yield from _convergence(progress, ruleset, unit)
    yield from _left(progress, runs)


def _counts(progress: Progress, runs: int) -> Iterator[str]:
    done = len(progress.finished) + len(progress.broken)
    yield (
        f"{done} of {runs} runs are done: {len(progress.converged)} converged, "
        f"{len(progress.finished) - len(progress.converged)} did not, {len(progress.broken)} cannot be read; "
        f"{sum(run.stopped is None for run in progress.underway)} under way"
    )
    if done > runs:
        yield f"that is {done - runs} more than are wanted, and a submission may not choose among them"


def _underway(run: Underway, unit: str) -> str:
    if run.stopped is None:
        state, written = "under way", f"; its log was last written {run.idle_minutes:.0f} minutes ago"
    else:
        state, written = f"stopped as {run.stopped}, without a result", ""
    if run.place is None:
        return f"run {run.number}: {state}, no evaluation in its first {run.minutes:.1f} minutes{written}"
    dice = "no number" if run.mean_dice is None else f"{run.mean_dice:.4f}"
    after = f"{run.place:,.0f} {unit}, {run.minutes:.1f} minutes"
    return f"run {run.number}: {state}, mean Dice {dice} after {after}{written}"


def _score(progress: Progress) -> Iterator[str]:
    found = progress.minutes
    if found:
        yield (
            f"time to train so far: {found.shown('minutes', 2)}, a mean without {found.dropped} runs at each "
            "end (95 % interval of the mean of many such runs)"
        )
    elif progress.finished or progress.broken:
        yield (
            f"no time to train so far: {progress.unconverged} runs did not converge, and a result of forty "
            f"bears {DROPPED}"
        )


def _convergence(progress: Progress, ruleset: str, unit: str) -> Iterator[str]:
    found = progress.convergence
    if not found:
        return
    text = f"to converge so far: {found.shown(unit, 0)}"
    if len(progress.batches) != 1:
        yield f"{text}, of batch sizes {sorted(progress.batches)}, expected one in all runs"
        return
    (batch,) = progress.batches
    point = bar(ruleset, batch)
    if point.kind == "missing":
        yield f"{text}; ruleset {ruleset} has no reference convergence point for a batch size of {batch}"
        return
    yield (
        f"{text}; the reference convergence point for a batch size of {point.batch_size} is "
        f"{point.mean:,.0f}, and no mean below {point.min_mean:,.0f} is accepted"
    )
    if found.mean < point.min_mean:
        yield "that is too fast: rcp_checker would refuse this mean"
    elif found.mean < point.mean:
        yield f"that is faster than the point: the time would be multiplied by {point.mean / found.mean:.4f}"


def _left(progress: Progress, runs: int) -> Iterator[str]:
    left = progress.minutes_left(runs)
    if left is None:
        yield "time left: no run has ended yet, so that nothing tells how long one takes"
    elif left:
        yield (
            f"time left: about {left / 60:.1f} hours"
            if left >= 90
            else f"time left: about {left:.0f} minutes"
        )
