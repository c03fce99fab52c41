"""Loader alone against both together: who holds whom back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.page.digits import number
from benchmark.page.figures.scales import beside, legend, logarithmic, merged
from benchmark.page.palette import DASHES, MARKERS, colour, line
from benchmark.page.profiles import Profile
from benchmark.page.svg import Plot, name_axes, shortened, spoken

_LABELLED = 40
"""Points that have their numbers written beside them."""
_KINDS = 5
"""Loaders with a marker of their own."""
_AWAY = 16
"""Pixels from a point to its number."""

_CAPTION = (
    "Across: what the loader makes when nothing uses its batches. Up: what it and the training step reach "
    "together. Nothing can lie above the roof, but for noise: left of its knee the loader is the limit, and "
    "on the diagonal every batch is used at once; right of it the step is the limit. What a point lacks to "
    "the roof is lost to imperfect overlap and contention."
)


@dataclass(frozen=True)
class Point:
    """Rates in images/s."""

    profile: Profile
    loader: float
    both: float
    step: float


def plot(profiles: Sequence[Profile]) -> Plot:
    """Of those with all three rates."""
    points = []
    for profile in profiles:
        loader, both, step = (profile.rate(arm).value for arm in ("loader", "both", "step"))
        if loader and both and step:
            points.append(Point(profile, loader, both, step))
    numbers = " Numbers: see the table of all points." if len(points) > 1 else ""
    return Plot(
        key="roofline",
        title="Loader against compute: the roofline",
        caption=_CAPTION + numbers,
        says=spoken([_in_words(point) for point in points]),
        draw=(lambda figure, narrow: _draw(figure, narrow, points)) if points else None,
        missing="No measurement has all three rates: loader alone, training step alone, together.",
        heights=(470, 440),
    )


def _draw(figure: Figure, narrow: bool, points: Sequence[Point]) -> None:
    axes = figure.subplots()
    ceilings = merged([point.step for point in points])
    values = [value for point in points for value in (point.loader, point.both)] + ceilings
    low, high = min(values) / 1.6, max(values) * 1.6
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        logarithmic(axis, low, high)
    thin: dict[str, Any] = {"color": colour("quiet"), "linestyle": DASHES[2], "linewidth": 1}
    axes.plot([low, high], [low, high], label="diagonal: every batch used at once", **thin)
    for index, top in enumerate(reversed(ceilings)):
        label = None if index else "roof: the smaller of loader and step"
        axes.plot([low, top, high], [low, top, top], color=colour("ink"), linewidth=1.6, label=label)
        axes.plot([low, top], [top, top], **thin)
        # Left of the knee, above the diagonal, no point can be in the way.
        ceiling = number(top) if index else f"compute ceiling {number(top)}"
        axes.annotate(ceiling, (low, top), (4, 4), textcoords="offset points")
    for kind, (name, members) in enumerate(_kinds(points).items()):
        axes.plot(
            [point.loader for point in members],
            [point.both for point in members],
            MARKERS[kind],
            linestyle="none",
            color=line(kind),
            markeredgecolor=colour("surface"),
            markersize=9,
            label=shortened(name, 38),
        )
    if 1 < len(points) <= _LABELLED:
        _number(axes, points, 300 if narrow else 620, 300)
    name_axes(axes, "loader alone (images/s)", "together (images/s)")
    legend(figure, axes, columns=1 if narrow else 2)


def _kinds(points: Sequence[Point]) -> dict[str, list[Point]]:
    """By the loader; those beyond ``_KINDS`` together."""
    found: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point.profile.number):
        name = point.profile.results.text("loader")
        if name not in found and len(found) >= _KINDS:
            name = "other loaders"
        found.setdefault(name, []).append(point)
    return found


def _in_words(point: Point) -> str:
    loader, both, step = (number(rate) for rate in (point.loader, point.both, point.step))
    return (
        f"{point.profile.name}: loader alone {loader}, together {both}, training step alone {step} images/s"
    )


def _number(axes: Axes, points: Sequence[Point], width: float, height: float) -> None:
    """Write each point's number beside it; ``axes``, with limits, are about ``width`` x ``height`` pixels."""
    low, high = np.log(axes.get_xlim())
    scale = np.array([width, height]) / (high - low)
    centres = [(np.log([point.loader, point.both]) - low) * scale for point in points]
    for point, offset in zip(points, beside(centres, _AWAY), strict=True):
        axes.annotate(
            str(point.profile.number),
            (point.loader, point.both),
            offset,
            textcoords="offset points",
            ha="center",
            va="center",
        )
