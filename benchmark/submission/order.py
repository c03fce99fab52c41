"""Whether the events of a log come in a legal order, in the file and on its clock."""

from collections.abc import Iterator, Sequence

from benchmark.mllog.figures import TARGET
from benchmark.submission.keys import Found
from benchmark.submission.lines import Line

MOST_INIT_MS = 30 * 60 * 1000
"""Below this from the first init_start to init_stop (``common.yaml`` of the compliance checker)."""

WEIGHTS_RULESETS = ("1.1.0", "2.0.0", "2.1.0")
"""Whose ``closed_unet3d.yaml`` lists the tensors that are initialised."""

_DURING = ("block_start", "epoch_start", "eval_start", "eval_accuracy")


def of_lines(lines: Sequence[Line], ruleset: str) -> Iterator[Found]:
    """What comes too early, too late or not at all. Keys that are missing are not looked for."""
    at: dict[str, int] = {}
    for place, line in enumerate(lines):
        at.setdefault(line.key, place)
    yield from _before(lines, "init_start", at, ("init_stop", "run_start"))
    yield from _before(lines, "cache_clear", at, ("run_start",))
    for first, then in (("init_start", "init_stop"), ("init_stop", "run_start"), ("run_start", "run_stop")):
        if first in at and then in at and at[then] < at[first]:
            yield "order", f"logs {then} before {first}, expected it after"
    start, stop = at.get("run_start"), at.get("run_stop")
    if start is None or stop is None:
        return
    for place, line in enumerate(lines):
        if line.key not in _DURING:
            continue
        if place < start or line.time_ms < lines[start].time_ms:
            yield "order", f"line {line.number} ({line.key}) is before run_start, expected it after"
        if line.key == "eval_accuracy" and (place > stop or line.time_ms > lines[stop].time_ms):
            yield "order", f"line {line.number} (eval_accuracy) is after run_stop, expected it before"
    yield from _init_time(lines, at)
    yield from _evaluations([line for line in lines if line.key == "eval_accuracy"])
    if ruleset in WEIGHTS_RULESETS:
        yield from _weights(lines)


def _before(lines: Sequence[Line], key: str, at: dict[str, int], others: Sequence[str]) -> Iterator[Found]:
    for place, line in enumerate(lines):
        for other in others:
            if line.key == key and place > at.get(other, place):
                yield "order", f"line {line.number} ({key}) is after {other}, expected it before"


def _init_time(lines: Sequence[Line], at: dict[str, int]) -> Iterator[Found]:
    if not {"init_start", "init_stop"} <= set(at):
        return
    begin = min(line.time_ms for line in lines if line.key == "init_start")
    for line in lines:
        if line.key == "init_stop" and not line.time_ms - begin < MOST_INIT_MS:
            minutes = (line.time_ms - begin) / 60_000
            yield (
                "init time",
                f"takes {minutes:.1f} minutes from init_start to init_stop, expected less than 30",
            )


def _evaluations(scores: Sequence[Line]) -> Iterator[Found]:
    places = [line.metadata.get("epoch_num") for line in scores]
    numbers = [place for place in places if isinstance(place, int | float)]
    if numbers != sorted(set(numbers)):
        yield "order", "logs evaluations whose epoch_num does not grow, expected a higher one each time"
    reached = [line.number for line in scores if isinstance(line.value, int | float) and line.value >= TARGET]
    if reached and reached[0] != scores[-1].number:
        yield (
            "trained on",
            f"reaches {TARGET} in line {reached[0]} and evaluates again in line {scores[-1].number}, "
            "expected run_stop instead",
        )


def _weights(lines: Sequence[Line]) -> Iterator[Found]:
    found = sorted(str(line.metadata.get("tensor")) for line in lines if line.key == "weights_initialization")
    if found != sorted(initialized_tensors()):
        yield (
            "weights",
            f"logs weights_initialization of {len(found)} tensors ({', '.join(found[:2])} ...), expected the "
            f"{len(initialized_tensors())} of the rules (input_block_0_conv to output_conv), each once",
        )


def initialized_tensors() -> list[str]:
    """The layers that ``closed_unet3d.yaml`` of ``WEIGHTS_RULESETS`` lists, by its names."""
    levels = ["input", *(f"down{level}" for level in range(5)), *(f"up{level}" for level in range(5))]
    blocks = ["input_block" if level == "input" else f"{level}_block" for level in levels]
    layers = [
        f"{block}_{i}_{layer}" for block in blocks for i in (0, 1) for layer in ("conv", "instancenorm")
    ]
    return [*layers, *(f"up{level}_deconv" for level in range(5)), "output_conv"]
