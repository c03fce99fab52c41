"""What a log has to say of a run, key by key, as ``closed_unet3d.yaml`` of the compliance checker has it."""

import difflib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmark.submission.lines import Line
from runtime.mlperf_arguments import STATUSES

Found = tuple[str, str]
"""A rule of `benchmark.submission.objections`, and what is wrong by it."""


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


Kind = tuple[Callable[[Any], bool], str]
"""Whether a value is of it, and its name."""

_TEXT: Kind = (lambda value: isinstance(value, str) and bool(value.strip()), "a name")
_COUNT: Kind = (lambda value: _whole(value) and value > 0, "a whole number above zero")
_RATE: Kind = (lambda value: _number(value) and value >= 0, "a number from zero on")
_ANY: Kind = (lambda value: True, "")

OPTIMIZER: dict[str, Kind] = {
    "opt_base_learning_rate": (lambda value: _number(value) and value > 0, "a number above zero"),
    "opt_initial_learning_rate": _RATE,
    "opt_learning_rate_warmup_epochs": _RATE,
    "opt_learning_rate_decay_boundary_epochs": (
        lambda value: isinstance(value, list) and all(map(_number, value)),
        "a list of numbers",
    ),
    "opt_learning_rate_decay_factor": _RATE,
    "opt_weight_decay": _RATE,
    "opt_momentum": _RATE,
}
"""The hyperparameters of the reference convergence points."""

ONCE: dict[str, Kind] = {
    "submission_benchmark": _TEXT,
    "submission_org": _TEXT,
    "submission_division": _TEXT,
    "submission_status": (lambda value: value in STATUSES, " or ".join(STATUSES)),
    "submission_platform": _TEXT,
    "seed": (_whole, "a whole number"),
    "global_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "opt_name": _TEXT,
    **OPTIMIZER,
    "oversampling": _ANY,
    "training_input_shape": _ANY,
    "validation_input_shape": _ANY,
    "validation_overlap": _ANY,
    "train_samples": _ANY,
    "eval_samples": _ANY,
    "init_stop": _ANY,
    "run_start": _ANY,
    "run_stop": _ANY,
}
"""Keys to log once, and kinds of values that can be computed with; which of these are legal is for
`benchmark.mllog.rules` to say."""

RULES = {"seed": "seeds", "opt_initial_learning_rate": "optimizer keys"}
"""By which a key is missed, if not by ``keys``."""

SEVERAL = ("cache_clear", "init_start", "block_start")
"""Keys to log once or more."""

CONVERGED = ("block_stop", "eval_accuracy")
"""Those of a run that is not aborted; an aborted one may have ended before them."""

METADATA = {
    "block_start": ("first_epoch_num", "epoch_count"),
    "block_stop": ("first_epoch_num",),
    "epoch_start": ("epoch_num",),
    "epoch_stop": ("epoch_num",),
    "eval_start": ("epoch_num",),
    "eval_stop": ("epoch_num",),
    "eval_accuracy": ("epoch_num",),
}
"""Numbers that events carry."""


def of_lines(lines: Sequence[Line], status: str) -> Iterator[Found]:
    """What is missing, logged twice, or no value to compute with; ``status`` is that of run_stop."""
    by_key: dict[str, list[Line]] = {}
    for line in lines:
        by_key.setdefault(line.key, []).append(line)
    for key, kind in ONCE.items():
        yield from _once(key, by_key.get(key, []), kind)
    for key in (*SEVERAL, *(CONVERGED if status != "aborted" else ())):
        yield from _several(key, by_key)
    for key in by_key:
        if key.startswith("opt_") and key not in ONCE:
            meant = difflib.get_close_matches(key, [one for one in ONCE if one.startswith("opt_")], 1, 0.0)[0]
            yield "optimizer keys", f"logs {key}, which no reference point has, expected {meant} or nothing"
    for key, names in METADATA.items():
        for line in by_key.get(key, []):
            yield from _metadata(line, names)
    for line in by_key.get("eval_accuracy", []):
        yield from _score(line)


def _once(key: str, found: Sequence[Line], kind: Kind) -> Iterator[Found]:
    if not found:
        yield RULES.get(key, "keys"), f"logs no {key}, expected it once"
        return
    allowed, expected = kind
    values = {json.dumps(line.value) for line in found}
    if len(found) > 1:
        rule = "keys" if len(values) > 1 else "duplicate keys"
        yield rule, f"logs {key} {len(found)} times with {' and '.join(sorted(values))}, expected it once"
    if not allowed(found[0].value):
        yield RULES.get(key, "values"), f"{key} is {json.dumps(found[0].value)}, expected {expected}"
    if key == "seed" and (missing := {"file", "lineno"} - set(found[0].metadata)):
        yield "seeds", f"the seed has no {' and no '.join(sorted(missing))} in its metadata, expected both"


def _several(key: str, by_key: dict[str, list[Line]]) -> Iterator[Found]:
    alternative = key.replace("block", "epoch")
    if key in by_key or alternative in by_key:
        return
    if key == "cache_clear":
        refused = " but cache_clear_not_permitted" if "cache_clear_not_permitted" in by_key else ""
        yield "cache clear", f"logs no cache_clear{refused}, expected the caches to be dropped before the run"
    else:
        yield "keys", f"logs no {key}, expected it once or more"


def _metadata(line: Line, names: Sequence[str]) -> Iterator[Found]:
    for name in names:
        value: Any = line.metadata.get(name)
        least = 1 if name == "epoch_count" else 0
        if not (_number(value) and value >= least):
            yield (
                "values",
                f"line {line.number} ({line.key}) has {name} {json.dumps(value)} in its metadata, expected a "
                f"number from {least} on",
            )
    count = line.metadata.get("samples_count", 0)
    if not _number(count) or count < 0:
        yield (
            "values",
            f"line {line.number} ({line.key}) has samples_count {json.dumps(count)}, expected a number",
        )


def _score(line: Line) -> Iterator[Found]:
    value = line.value
    # A network that diverged scores NaN, which no checker minds.
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield "values", f"line {line.number} (eval_accuracy) is {json.dumps(value)}, expected a mean Dice"
    elif value < 0 or value > 1:
        yield "values", f"line {line.number} (eval_accuracy) is {value:g}, expected a mean Dice from 0 to 1"
