"""Axes, samples and labels that several figures share."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from benchmark.page.node import Array

Indices = NDArray[np.intp]


def logarithmic(axis: Axis, low: float, high: float) -> None:
    """Plain numbers on a logarithmic axis from ``low`` to ``high``; more of them where the range is short."""
    decades = np.log10(high / low)
    steps = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 0.9 else (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=30))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def thinned(count: int, most: int) -> Indices:
    """At most ``most`` of ``count`` indices, evenly, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def extremes(values: Array, most: int) -> Indices:
    """At most ``most`` indices of ``values``, in order: the smallest and the largest of each stretch."""
    if len(values) <= most:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), most // 2)
    kept = [(s[values[s].argmin()], s[values[s].argmax()]) for s in stretches]
    return np.unique(np.array(kept).ravel())


def sampled(values: Array, most: int) -> Indices:
    """At most ``most`` indices of ``values``, in order: even ones, so that dots stay as dense as they are.

    A tenth of ``most`` each are those of the smallest and the largest.
    """
    if len(values) <= most:
        return np.arange(len(values))
    tenth, ordered = most // 10, np.argsort(values, kind="stable")
    even = thinned(len(values), most - 2 * tenth)
    return np.unique(np.concatenate([ordered[:tenth], even, ordered[-tenth:]]))


def merged(values: Sequence[float], closer: float = 0.05) -> list[float]:
    """Means of groups of ``values``, a group being those within the part ``closer`` of its smallest."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value <= groups[-1][0] * (1 + closer):
            groups[-1].append(value)
        else:
            groups.append([value])
    return [sum(group) / len(group) for group in groups]


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Ascending ``places``, those that are closer than ``gap`` pushed apart around their middle."""
    moved = list(places)
    for _ in range(50):
        for low in range(len(moved) - 1):
            if (lacking := gap - (moved[low + 1] - moved[low])) > 1e-9:
                moved[low] -= lacking / 2
                moved[low + 1] += lacking / 2
    return moved


def beside(centres: Sequence[Array], away: float) -> list[tuple[float, float]]:
    """Where to put a label for each of ``centres`` (x, y), ``away`` from it, as an offset.

    Clear of all centres and of the labels before it where that can be, at the right below first.
    """
    angles = np.radians([-45, 135, -90, 90, 45, 225, 0, 180])
    ways = [away * np.array([np.cos(angle), np.sin(angle)]) for angle in angles]
    taken, found = list(centres), []
    for centre in centres:
        room = [min(float(np.hypot(*(centre + way - other))) for other in taken) for way in ways]
        best = ways[next((i for i, free in enumerate(room) if free > 0.8 * away), int(np.argmax(room)))]
        taken.append(centre + best)
        found.append((float(best[0]), float(best[1])))
    return found


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of ``axes``, above everything."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, alignment="left")
