"""Launches and saved bytes of a whole step, ours beside the reference's, in float32 and under autocast."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmark.peers.mlperf_step import ReferenceStep
from benchmark.step.claims import Claim, at_most
from benchmark.step.fake_step import Shape, Subject, count_launches, saved_bytes
from benchmark.step.launches import PARTS

MOST_LAUNCHES = 0.5
MOST_SAVED = 0.65
"""With ``--recompute_norm``. Both: part of the reference's."""
COUNT_METHOD = (
    "The second step, on tensors without numbers. Every operation below autograd counts once (launches), "
    "ours as the kernels that they launch; views, detach and allocations are left out, except in with_views. "
    "dispatches counts ours once as well. reference: SGD one parameter at a time, PyTorch's choice on a CPU "
    "and on the meta device; reference-foreach: all at once, its choice on a GPU. ours: the kernels of "
    "--fused auto on a GPU, and fused SGD. foreach and fused optimizers count as the few operations that "
    "they are, however many kernels PyTorch makes of them. Autocast is a CPU's, to bfloat16."
)
MEMORY_METHOD = (
    "Storages that operations of network and loss made and that are still alive after them, without the "
    "loss: per_image is what a second image adds to the first, fixed what does not grow with the batch "
    "(under autocast, copies of the weights; shadow weights are there beforehand). Tensors have no numbers, "
    "and parameters and inputs do not count. Autocast is a CPU's, to bfloat16."
)
_CLAIMED = (
    ("reference", "launches"),
    ("reference-foreach", "launches"),
    ("reference-foreach", "dispatches"),
)
FLOAT32, BFLOAT16 = "float32", "bfloat16"


def subjects(reference: ReferenceStep) -> dict[str, dict[str, Subject]]:
    """By precision and name; shadow weights exist under autocast alone."""
    plain = {
        "reference": Subject(reference=reference),
        "reference-foreach": Subject(reference=reference, foreach=True),
        "ours": Subject(),
        "ours-recompute": Subject(recompute_norm=True),
    }
    autocast = plain | {
        "ours-shadow": Subject(shadow_weights=True),
        "ours-shadow-recompute": Subject(shadow_weights=True, recompute_norm=True),
    }
    return {
        FLOAT32: plain,
        BFLOAT16: {name: replace(subject, amp=True) for name, subject in autocast.items()},
    }


def count_findings(reference: ReferenceStep, shape: Shape) -> dict[str, Any]:
    """Launches of a step, by precision and name."""
    found: dict[str, Any] = {}
    for precision, named in subjects(reference).items():
        rows = found[precision] = {name: _count(subject, shape) for name, subject in named.items()}
        for name, row in rows.items():
            if not name.startswith("reference"):
                row["ratio_to"] = {
                    other: {
                        what: row[what] / rows[other][what]
                        for what in ("launches", "with_views", "dispatches")
                    }
                    for other in ("reference", "reference-foreach")
                }
    return found


def _count(subject: Subject, shape: Shape) -> dict[str, Any]:
    count = count_launches(subject, shape)
    return {
        "parts": {part: count.total(part) for part in PARTS},
        "launches": count.total(),
        "with_views": count.total(idle=True),
        "dispatches": count.total(kernels=False),
        "operations": count.by_operation(),
    }


def memory_findings(reference: ReferenceStep, shape: Shape) -> dict[str, Any]:
    """Bytes saved for the backward pass, by precision and name."""
    found: dict[str, Any] = {}
    for precision, named in subjects(reference).items():
        rows = found[precision] = {
            name: _saved(subject, shape) for name, subject in named.items() if not subject.foreach
        }
        for row in rows.values():
            row["ratio"] = row["per_image_bytes"] / rows["reference"]["per_image_bytes"]
    return found


def _saved(subject: Subject, shape: Shape) -> dict[str, Any]:
    one, two = (saved_bytes(subject, replace(shape, batch_size=size)) for size in (1, 2))
    return {"per_image_bytes": two - one, "fixed_bytes": 2 * one - two}


def count_claims(found: Mapping[str, Any]) -> list[Claim]:
    """Ours at most half of the reference's launches; beside its fewest also where ours count once each."""
    return [
        at_most(
            f"{precision}, {name}: {what} at most half of {other}'s",
            row["ratio_to"][other][what],
            MOST_LAUNCHES,
        )
        for precision, rows in found.items()
        for name, row in rows.items()
        if "ratio_to" in row
        for other, what in _CLAIMED
    ]


def memory_claims(found: Mapping[str, Any]) -> list[Claim]:
    """With recomputed norms at most 65 % of the reference's bytes."""
    return [
        at_most(f"{precision}, {name}: at most 65 % of the reference's saved bytes", row["ratio"], MOST_SAVED)
        for precision, rows in found.items()
        for name, row in rows.items()
        if name.endswith("recompute")
    ]
