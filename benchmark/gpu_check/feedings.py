"""Runs of ``main.py --benchmark``: the fastest rung, with each loader that there is."""

import importlib.util
import os

from benchmark.gpu_check.journal import OK, Journal, Outcome
from benchmark.gpu_check.ladder import flags_of, rung
from benchmark.gpu_check.plan import Item, Items, Plan
from benchmark.gpu_check.scale import Scale


def end_to_end(plan: Plan, journal: Journal) -> Items:
    """Each way of feeding the fastest configuration, at both batches."""
    scale, found = plan.scale, []
    ran = [outcome for outcome in journal.of("ladder") if outcome.status == OK and outcome.values]
    large = [outcome for outcome in ran if outcome.values and outcome.values["batch"] == scale.large_batch]
    best = max(large, key=_rate, default=None)
    name = best.name.split(" ")[0] if best else "everything"
    flags = [*flags_of(scale, rung(name)), *scale.flags(), "--seed", "0"]
    if scale.dry:
        flags = [flag for flag in flags if flag != "--cuda_graph"]
    steps = ["--benchmark_steps", str(scale.end_to_end_steps), "--ceiling_steps", str(scale.min_steps)]
    steps += ["--warmup_steps", str(2 * scale.warmup_steps), "--num_workers", str(_workers(scale))]
    for batch in (scale.large_batch,) if scale.dry else (scale.large_batch, scale.small_batch):
        for feeding, own, missing in _feedings(plan):
            arguments = {
                "name": f"{feeding.replace(' ', '-')}-{batch}",
                "batch": batch,
                "dry": scale.dry,
                "flags": [*flags, *steps, *own, "--batch_size", str(batch)],
            }
            found.append(Item(f"{feeding}, {name}, batch {batch}", arguments, 90.0, not_here=missing))
    return found


def _rate(outcome: Outcome) -> float:
    return outcome.values["images_per_s"] if outcome.values else 0.0


def _workers(scale: Scale) -> int:
    return 1 if scale.dry else max(2, min(12, len(os.sched_getaffinity(0)) - 2))


def _feedings(plan: Plan) -> list[tuple[str, list[str], str]]:
    """Name, flags, and why it cannot be had here."""
    data = ["--data_dir", str(plan.data_dir or "none")]
    unread = "" if plan.data_dir else "not run: no --data_dir"
    dali = unread or ("" if installed("nvidia.dali") else "not run: DALI is not installed")
    if plan.scale.dry:
        dali = "not run: one loader that reads is enough for a dry run"
    crops = [] if installed("cc3d") else ["--oversampling", "0"]
    called = "" if installed("cc3d") else " (no oversampling: cc3d is not installed)"
    return [
        (f"pytorch{called}", [*data, "--loader", "pytorch", *crops], unread),
        ("dali", [*data, "--loader", "dali"], dali),
        ("dali device cache", [*data, "--loader", "dali", "--data_cache", "device"], dali),
        ("dali host cache", [*data, "--loader", "dali", "--data_cache", "host"], dali),
        ("synthetic", [*data, "--loader", "synthetic"], ""),
    ]


def installed(module: str) -> bool:
    """Whether a module can be found; it may still fail to be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
