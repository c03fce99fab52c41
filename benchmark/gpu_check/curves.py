"""Loss curves from the same weights and batches: whether the kernels train as PyTorch's own modules do."""

from collections.abc import Sequence
from itertools import cycle, islice
from math import inf, isfinite
from statistics import fmean
from typing import Any

import torch

from benchmark.gpu_check.journal import OK, WRONG, Journal, Outcome
from benchmark.gpu_check.scale import Scale
from benchmark.gpu_check.steps import learnable, subject_of
from pipelines.base import Batch
from runtime.schedule import LearningRate
from runtime.training import training_steps

SMOOTHED_OVER = 20
BATCHES = 8
"""Different ones, in turn."""
RATE = LearningRate(base=0.05)
TOLERATED, FLOOR = 3.0, 0.02
"""Smoothed curves may be so many times as far apart as native runs are among themselves, or this far."""


def measure(scale: Scale, flags: list[str], layout: str, seed: int) -> dict[str, Any]:
    """The losses of all steps of one run."""
    torch.backends.cudnn.benchmark = False
    patch = scale.curve_patch
    flags = [*flags, "--layout", layout, "--batch_size", str(scale.small_batch), "--seed", str(seed)]
    batches = [
        Batch(*learnable(scale, scale.small_batch, patch, layout, number)) for number in range(BATCHES)
    ]
    with subject_of(scale, flags, patch) as subject:
        state = subject.session.state(subject.session.model())
        steps = training_steps(state, cycle(batches), 1 << 62, RATE)
        losses = torch.stack(list(islice(steps, scale.curve_steps))).cpu().tolist()
    return {"flags": flags, "losses": losses}


def smoothed(losses: Sequence[float]) -> list[float]:
    """Means over `SMOOTHED_OVER` neighbours (all of a shorter curve)."""
    width = min(SMOOTHED_OVER, len(losses))
    return [fmean(losses[begin : begin + width]) for begin in range(len(losses) - width + 1)]


def apart(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """The largest and the mean difference of two curves, both smoothed; infinite where one is no number."""
    differences = [abs(a - b) for a, b in zip(smoothed(one), smoothed(other), strict=True)]
    if not all(map(isfinite, differences)):
        return inf, inf
    return max(differences), fmean(differences)


def judged(curves: dict[str, Sequence[float]]) -> dict[str, Any]:
    """How far the fused curve is from the native one, beside how far other native runs are.

    Args:
        curves: Losses by name: ``native``, ``fused`` and any number of other native runs.
    """
    native = curves["native"]
    distances = {name: apart(losses, native) for name, losses in curves.items() if name != "native"}
    yardstick = max((largest for name, (largest, _) in distances.items() if name != "fused"), default=0.0)
    agrees = distances["fused"][0] <= max(FLOOR, TOLERATED * yardstick) < inf
    return {
        "largest_and_mean_difference": {name: list(found) for name, found in distances.items()},
        "native_first_and_last": [smoothed(native)[0], smoothed(native)[-1]],
        "fused_last": smoothed(curves["fused"])[-1],
        "agrees": agrees,
    }


def verdict(journal: Journal) -> Outcome | None:
    """What the curves say together; None where one of the two to compare is missing."""
    found = {one.name: one.values["losses"] for one in journal.of("curves") if one.values}
    if not {"native", "fused"} <= found.keys():
        return None
    values = judged(found)
    name = "fused beside native"
    if values["agrees"]:
        return Outcome(name, OK, values=values)
    return Outcome(name, WRONG, "the fused curve leaves the native one", values=values)
