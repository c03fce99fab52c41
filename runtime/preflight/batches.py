"""What follows from the global batch: samples per epoch, when to evaluate, how long to train.

The rules count in epochs of ``CEILING(168 / global_batch_size) * global_batch_size`` samples.
"""

from collections.abc import Sequence
from math import ceil

from pipelines.base import Shard
from pipelines.cases import Schedule
from pipelines.errors import DataError
from preprocess.spec import TRAIN_SAMPLES
from runtime.arguments import RunConfig
from runtime.errors import RunError
from runtime.preflight.finding import Finding, State
from runtime.rcp import load_rcps, pruned
from runtime.schedule import mlperf_evaluation

LAST_SAMPLES = 10_000 * TRAIN_SAMPLES
"""Training samples after which a run has not converged (Benchmark specific rules, unet3d)."""

_EVALUATION = "Deprecated benchmarks quality measure"


def batch_findings(config: RunConfig, ranks: int) -> list[Finding]:
    """The rules on a run of ``ranks`` processes, evaluation ranks included."""
    training_ranks = ranks - config.eval_ranks
    try:
        samples = _samples_per_epoch(config, training_ranks)
    except DataError as error:
        return _unknown(str(error))
    return [
        _partial_batch(samples),
        _evaluation(config, samples),
        _epochs(config, samples),
        _reference_points(config, training_ranks),
    ]


def _samples_per_epoch(config: RunConfig, training_ranks: int) -> int:
    """Samples that all training ranks consume in an epoch of the benchmark's 168.

    Raises:
        DataError: They make no epoch.
    """
    if training_ranks < 1:
        raise DataError(f"--eval_ranks {config.eval_ranks} of {training_ranks + config.eval_ranks} ranks "
                        "leaves none that trains")  # fmt: skip
    loader = config.loader
    return Schedule(
        num_cases=TRAIN_SAMPLES,
        shard=Shard(0, training_ranks),
        batch_size=loader.batch_size,
        ga_steps=loader.ga_steps,
        last_batch=loader.last_batch,
        seed=0,
        sharding=loader.sharding,
    ).samples_per_epoch


def _partial_batch(samples: int) -> Finding:
    dropped = TRAIN_SAMPLES - samples
    return Finding(
        rule="samples per epoch",
        required=f"{TRAIN_SAMPLES}, or padded",
        found=f"{samples}, {dropped} dropped" if dropped > 0 else str(samples),
        state=State.OFF if dropped > 0 else State.OK,
        remedy=f"pass --last_batch pad, or a global batch that divides {TRAIN_SAMPLES}",
        source="Equivalence exceptions",
    )


def _evaluation(config: RunConfig, samples: int) -> Finding:
    expected = mlperf_evaluation(samples)
    found = config.evaluation or expected
    return Finding(
        rule="evaluations",
        required=f"after epoch {expected.start}, then every {expected.every}",
        found=f"after epoch {found.start}, then every {found.every}",
        state=State.OK if found == expected else State.OFF,
        remedy="pass --start_eval_at auto --evaluate_every auto",
        source=_EVALUATION,
    )


def _epochs(config: RunConfig, samples: int) -> Finding:
    first, last = mlperf_evaluation(samples).start, ceil(LAST_SAMPLES / samples)
    return Finding(
        rule="last epoch",
        required=f"{first} to {last}",
        found=str(config.epochs),
        state=State.OK if first <= config.epochs <= last else State.OFF,
        remedy=f"pass --epochs {last}, or fewer from {first} on",
        source="Benchmark specific rules for deprecated benchmarks",
    )


def _reference_points(config: RunConfig, training_ranks: int) -> Finding:
    """Only points that the checker keeps count; a batch outside them can be legal all the same."""
    batch = config.loader.batch_size * config.loader.ga_steps * training_ranks
    try:
        sizes = [point.batch_size for point in pruned(load_rcps(config.mlperf.ruleset))]
    except RunError as error:
        return _batch_finding(str(batch), "those of the ruleset", State.OFF, str(error))
    inside = sizes[0] <= batch <= sizes[-1]
    nearest = min(sizes, key=lambda size: abs(size - batch))
    found = f"{batch}" if inside else f"{batch}, the nearest point is {nearest}"
    remedy = (
        f"results of a smaller batch have to pass the point of {nearest}"
        if batch < nearest
        else f"choose at most {nearest}, or hand in runs of the reference at {batch}"
    )
    return _batch_finding(found, _within(sizes), State.OK if inside else State.WARNING, remedy)


def _within(sizes: Sequence[int]) -> str:
    return f"{sizes[0]} to {sizes[-1]}, with points at {', '.join(map(str, sizes))}"


def _batch_finding(found: str, required: str, state: State, remedy: str) -> Finding:
    return Finding(
        rule="global batch", required=required, found=found, state=state, remedy=remedy,
        source="Reference Convergence Points (RCPs)",
    )  # fmt: skip


def _unknown(reason: str) -> list[Finding]:
    """All rules off, since none can be judged."""
    rules = ("samples per epoch", "evaluations", "last epoch", "global batch")
    return [
        Finding(
            rule=rule, required="an epoch of training", found="none", state=State.OFF, remedy=reason,
            source=_EVALUATION,
        )
        for rule in rules
    ]  # fmt: skip
