"""Where runs differ from the closed division's schedule and settings, each in one sentence.

From training_rules.adoc of mlcommons/training_policies, rounds v1.0 to v4.0. What is well-formed and complete
is for mlperf_logging's compliance checker to say; what converges no faster than it may, for its RCP checker.
"""

import json
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

from benchmark.mllog.figures import LAST_EPOCH, TARGET, Run
from benchmark.mllog.log import Log
from benchmark.mllog.score import DROPPED, RUNS
from preprocess.spec import EVAL_SAMPLES, TRAIN_SAMPLES
from runtime.schedule import mlperf_evaluation

FIXED: dict[str, tuple[Any, ...]] = {
    "submission_division": ("closed",),
    "train_samples": (TRAIN_SAMPLES,),
    "eval_samples": (EVAL_SAMPLES,),
    "opt_name": ("sgd", "nag", "momentum"),
    "oversampling": (0.4,),
    "training_input_shape": ([128, 128, 128], [128, 128, 128, 1]),
    "validation_input_shape": ([128, 128, 128], [128, 128, 128, 1]),
    "validation_overlap": (0.5,),
}
"""Keys and what the closed division allows; Google's shapes name the channel."""

FREE = (
    "global_batch_size",
    "gradient_accumulation_steps",
    "opt_base_learning_rate",
    "opt_initial_learning_rate",
    "opt_learning_rate_warmup_epochs",
    "opt_learning_rate_decay_boundary_epochs",
    "opt_learning_rate_decay_factor",
    "opt_momentum",
    "opt_weight_decay",
    "samples_per_epoch",
)
"""Keys that a submitter chooses, once for all runs of a result."""


def of_run(log: Log, run: Run) -> list[str]:
    """The deviations of one run."""
    return [*_settings(log), *_partial_batch(log, run), *_schedule(run), *_outcome(run)]


def of_set(logs: Sequence[Log], unfinished: int) -> list[str]:
    """The deviations that only show in all runs of a result together.

    Args:
        logs: Those that could be read.
        unfinished: How many could not.
    """
    found = []
    if (runs := len(logs) + unfinished) != RUNS:
        found.append(f"{runs} run{'s' if runs > 1 else ''}, expected {RUNS}")
    for key in FREE:
        if len(values := different(logs, key)) > 1:
            named = " and ".join(map(json.dumps, values))
            found.append(f"{key} is {named}, expected the same in all runs of a result")
    seeds: dict[Any, list[str]] = {}
    for log in logs:
        if (seed := log.value("seed")) is not None:
            seeds.setdefault(json.dumps(seed), []).append(log.path.name)
    found += [
        f"seed {seed} is that of {', '.join(names)}, expected another one in each run"
        for seed, names in seeds.items()
        if len(names) > 1
    ]
    return found


def different(logs: Sequence[Log], key: str) -> list[Any]:
    """The values of a key, each once; None for logs without it."""
    return [json.loads(value) for value in sorted({json.dumps(log.value(key)) for log in logs})]


def too_many_unconverged(unconverged: int) -> list[str]:
    """The deviation of a result of which too many runs miss the target."""
    if unconverged <= DROPPED:
        return []
    return [f"{unconverged} runs did not converge, expected {DROPPED} at most"]


def _settings(log: Log) -> Iterator[str]:
    for key, allowed in FIXED.items():
        value = log.value(key)
        expected = " or ".join(json.dumps(one) for one in allowed if one != [128, 128, 128, 1])
        if value is None:
            yield f"logs no {key}, expected {expected}"
        elif value not in allowed:
            yield f"{key} is {json.dumps(value)}, expected {expected}"
    for key in ("seed", "global_batch_size"):
        if log.value(key) is None:
            yield f"logs no {key}"


def _partial_batch(log: Log, run: Run) -> Iterator[str]:
    batch, epoch = run.global_batch_size, run.samples_per_epoch
    cases = log.count("train_samples") or TRAIN_SAMPLES
    if not batch:
        return
    padded = ceil(cases / batch) * batch
    if epoch in (cases, padded):
        return
    reason = f"{epoch:g} samples per epoch at a global batch size of {batch:g}"
    if epoch == cases // batch * batch:
        yield f"{reason} drop the last partial batch, which the rules do not list (the reference does it)"
    else:
        yield f"{reason}, expected {' or '.join(f'{n:g}' for n in sorted({cases, padded}))}"


def _schedule(run: Run) -> Iterator[str]:
    epochs = sorted(evaluation.epoch for evaluation in run.evaluations)
    if run.first_epoch > 1:
        yield f"starts at epoch {run.first_epoch:g}, so that its time is not the time to train"
    if not epochs:
        return
    first, every = _points(run.samples_per_epoch)
    formula = f"168/{run.samples_per_epoch:g}"
    if run.first_epoch == 1 and epochs[0] != first:
        yield f"evaluates first after epoch {epochs[0]:g}, expected {first} = CEIL(1000*{formula})"
    steps = {after - before for before, after in zip(epochs, epochs[1:], strict=False)} - {every}
    if steps:
        yield (
            f"epochs between evaluations are {' and '.join(f'{step:g}' for step in sorted(steps)[:3])}, "
            f"expected {every} = CEIL(20*{formula})"
        )
    last = ceil(LAST_EPOCH * TRAIN_SAMPLES / run.samples_per_epoch)
    if epochs[-1] > last:
        yield f"trains until epoch {epochs[-1]:g}, expected {last} = CEIL({LAST_EPOCH}*{formula}) at most"


def _points(samples_per_epoch: float) -> tuple[int, int]:
    schedule = mlperf_evaluation(ceil(samples_per_epoch))
    return schedule.start, schedule.every


def _outcome(run: Run) -> Iterator[str]:
    best = max((score.mean_dice or 0.0 for score in run.evaluations), default=0.0)
    if run.status == "success" and best < TARGET:
        yield f"claims success at a mean Dice of {best:.4f}, expected {TARGET} at least"
    if run.status != "success" and best >= TARGET:
        yield f"reaches a mean Dice of {best:.4f}, but its status is {run.status}"
