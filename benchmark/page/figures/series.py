"""Points of a sweep as lines over the number of workers."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.page.node import Estimate
from benchmark.page.profiles import Profile

AXIS = "num_workers"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that differ only in their workers, fewest first."""

    name: str
    workers: tuple[int, ...]
    together: tuple[Estimate, ...]
    alone: tuple[Estimate, ...]
    """The loader alone."""
    ceiling: float | None
    """Images/s of the training step alone, the median."""


def series(profiles: Sequence[Profile]) -> list[Series]:
    """Lines of at least two points, those with the highest rate together first."""
    groups: dict[tuple[str, ...], dict[int, Profile]] = {}
    for profile in profiles:
        if profile.flags.get(AXIS, "").isdecimal():
            others = [f"{name}={value}" for name, value in profile.flags.items() if name != AXIS]
            groups.setdefault((profile.sweep, *others), {})[int(profile.flags[AXIS])] = profile
    found = [_line(named, points) for named, points in groups.items() if len(points) > 1]
    return sorted(found, key=lambda one: -max(rate.value or 0.0 for rate in one.together))


def _line(named: tuple[str, ...], points: dict[int, Profile]) -> Series:
    workers = sorted(points)
    ordered = [points[count] for count in workers]
    ceilings = [value for point in ordered if (value := point.rate("step").value)]
    return Series(
        name=", ".join(filter(None, named)) or "this sweep",
        workers=tuple(workers),
        together=tuple(point.rate("both") for point in ordered),
        alone=tuple(point.rate("loader") for point in ordered),
        ceiling=statistics.median(ceilings) if ceilings else None,
    )
