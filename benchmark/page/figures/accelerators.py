"""Published rates of accelerators, as lines with names at their right ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.anchors import ANCHORS, PATCH
from benchmark.page.figures.scales import apart
from benchmark.page.palette import DASHES, colour
from benchmark.page.profiles import Profile

_GAP = 15
"""Pixels between the middles of two names."""
_NAMES_AT = 1.05
"""Where they begin, in widths of the axes."""


@dataclass(frozen=True)
class Accelerator:
    """One line."""

    name: str
    images_per_s: float
    """Patches of 128^3, of one accelerator."""
    emulated: bool
    """From the time that MLPerf Storage gives a step, not from a training result."""


def comparable(profiles: Sequence[Profile]) -> bool:
    """Whether all of them measured patches of the size that the anchors are of."""
    return all(profile.patch == PATCH for profile in profiles)


def accelerators() -> list[Accelerator]:
    """All anchors, the slowest first."""
    found = []
    for key, anchor in ANCHORS.items():
        emulated = key.startswith("mlperf-storage")
        model = key.rpartition("-")[2].upper() + ("*" if emulated else "")
        name = f"{model} {anchor.images_per_second:.1f}" + ("" if anchor.measured else "?")
        found.append(Accelerator(name, anchor.images_per_second, emulated))
    return sorted(found, key=lambda one: one.images_per_s)


def name_accelerators(figure: Figure, axes: Axes, shown: Sequence[Accelerator]) -> None:
    """Draw ``shown``, in their order, across ``axes``, whose limits are set; no name covers another."""
    labels = []
    for one in shown:
        style = DASHES[2] if one.emulated else DASHES[1]
        axes.axhline(one.images_per_s, color=colour("quiet"), linestyle=style, linewidth=1)
        label = axes.annotate(
            one.name,
            (1.0, one.images_per_s),
            (_NAMES_AT, one.images_per_s),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour("quiet"), "linewidth": 0.8},
        )
        labels.append(label)
    # The names take their room from the axes: how high these are is known only when the layout is done.
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    per_decade = axes.get_window_extent().height / np.log10(high / low)
    places = apart([np.log10(one.images_per_s) * per_decade for one in shown], _GAP)
    for label, place in zip(labels, places, strict=True):
        label.xyann = (_NAMES_AT, float(10 ** (place / per_decade)))
