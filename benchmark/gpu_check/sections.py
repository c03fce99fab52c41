"""The sections of the check in the order of their worth, and the items that each consists of."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.gpu_check import commands, curves, feedings, items, lines
from benchmark.gpu_check.journal import Journal, Outcome
from benchmark.gpu_check.plan import Items, Plan

Values = dict[str, Any]


def _too_far(values: Values) -> str:
    return f"further from float64 than allowed: {', '.join(values['wrong'])}" if values["wrong"] else ""


def _slow(values: Values) -> str:
    return f"not by cuDNN: {', '.join(values['not_by_cudnn'])}" if values["not_by_cudnn"] else ""


def _failed(values: Values) -> str:
    return f"failed: {', '.join(values['failed'])}" if values["failed"] else ""


def _lost(values: Values) -> str:
    losses = (values["first_loss"], values["last_loss"])
    return "" if all(map(math.isfinite, losses)) else f"a loss that is no number: {losses}"


def _nothing(values: Values) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the check."""

    name: str
    title: str
    share: float
    """Of the time of all sections that are run. When it is over no further item begins; what earlier sections
    leave is theirs too."""
    items: Callable[[Plan, Journal], Items]
    line: Callable[[Values], str]
    """What is printed of an item's values."""
    wrong: Callable[[Values], str] = _nothing
    """Why an item's values are a failed check; empty where they are none."""
    run: Callable[[Path, Values, float], Values] | None = None
    """What runs an item, given the folder, its arguments and a limit in seconds; None: a child process."""
    after: Callable[[Journal], Outcome | None] | None = None
    """What follows from all items together."""
    parallel: bool = False
    """Whether several children may share the device, as where nothing is timed."""


SECTIONS = (
    Section(
        name="ceilings",
        title="ceilings: a large matrix product and a device copy",
        share=0.05,
        items=items.ceilings,
        line=lines.ceiling,
    ),
    Section(
        name="exactness",
        title="every kernel at the network's shapes, forward and backward, against float64: its error beside "
        "that of PyTorch's own path (relative, worst of all outputs and gradients)",
        share=0.15,
        items=items.exactness,
        line=lines.exactness,
        wrong=_too_far,
        parallel=True,
    ),
    Section(
        name="ladder",
        title="training steps on resident batches",
        share=0.2,
        items=items.ladder,
        line=lines.step,
        wrong=_lost,
    ),
    Section(
        name="end-to-end",
        title="main.py --benchmark with the fastest configuration and each loader",
        share=0.25,
        items=feedings.end_to_end,
        line=lines.end_to_end,
        run=commands.end_to_end,
    ),
    Section(
        name="convolutions",
        title="every convolution, NDHWC, as cuDNN chooses: microseconds (TFLOP/s, share of "
        "matmul; GB/s, share of copy)",
        share=0.07,
        items=items.convolutions,
        line=lines.convolution,
    ),
    Section(
        name="fusions",
        title="fused operations beside PyTorch's own: microseconds forward / forward and backward",
        share=0.08,
        items=items.fusions,
        line=lines.fusion,
    ),
    Section(
        name="curves",
        title="loss curves from the same seed",
        share=0.06,
        items=items.curves,
        line=lines.curve,
        after=curves.verdict,
    ),
    Section(
        name="kernels",
        title="names of the longest kernels",
        share=0.02,
        items=items.kernels,
        line=lines.kernels,
        wrong=_slow,
    ),
    Section(
        name="tests",
        title="tests that need a GPU",
        share=0.07,
        items=items.tests,
        line=lines.tests,
        wrong=_failed,
        run=commands.tests,
    ),
    Section(
        name="preparing",
        title="training steps that take long to prepare: cuDNN's search, torch.compile",
        share=0.05,
        items=items.preparing,
        line=lines.step,
        wrong=_lost,
    ),
)
"""In the order in which they run."""
