"""The points of a sweep: every combination of the values of its axes."""

import argparse
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Flags = dict[str, str]
"""Name of a flag (without dashes) -> its value, as text."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Axis:
    """A flag and the values that it takes."""

    name: str
    values: tuple[str, ...]


def axis(text: str) -> Axis:
    """``name=value,value,...``; an argparse type."""
    name, equals, values = text.partition("=")
    found = tuple(value.strip() for value in values.split(","))
    if not equals or not name or not all(found):
        raise argparse.ArgumentTypeError(f"expected flag=value,value,..., found {text!r}")
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names a value twice")
    return Axis(name.removeprefix("--"), found)


def duration(text: str) -> float:
    """``90s``, ``20m`` or ``1.5h`` in seconds; an argparse type."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"expected a time like 90s, 20m or 1.5h, found {text!r}")
    return float(match[1]) * _UNITS_S[match[2]]


def points(axes: Sequence[Axis]) -> list[Flags]:
    """All combinations; the last axis changes fastest."""
    names = [one.name for one in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(a.values for a in axes))]


def arguments(flags: Mapping[str, str], switches: frozenset[str]) -> list[str]:
    """A point's flags for a command line; ``switches`` take ``on`` or ``off`` rather than a value."""
    found = []
    for name, value in flags.items():
        if name not in switches:
            found += [f"--{name}", *value.split()]
        elif value == "on":
            found.append(f"--{name}")
    return found


def without(command: Sequence[str], names: frozenset[str]) -> list[str]:
    """A command line without the flags ``names`` and their one value each."""
    kept, skip = [], False
    for token in command:
        if skip:
            skip = False
            continue
        name, equals, _ = token.partition("=")
        if name.removeprefix("--") in names and token.startswith("--"):
            skip = not equals
            continue
        kept.append(token)
    return kept


def interleaved(count: int, repetitions: int) -> list[tuple[int, int]]:
    """(point, repetition) in the order of measuring: forwards, backwards, forwards, ..."""
    order = []
    for repetition in range(repetitions):
        turn = range(count) if repetition % 2 == 0 else reversed(range(count))
        order += [(point, repetition) for point in turn]
    return order
