"""Throughput against workers: measured where a sweep varied them, the record's model elsewhere."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmark.page.digits import number
from benchmark.page.figures.accelerators import Accelerator, accelerators, comparable, name_accelerators
from benchmark.page.figures.scales import legend, logarithmic, merged
from benchmark.page.figures.series import Series, series
from benchmark.page.node import Estimate, Node
from benchmark.page.palette import DASHES, MARKERS, colour, line
from benchmark.page.profiles import Profile
from benchmark.page.svg import Plot, name_axes, shortened, spoken

MOST = 4
"""Lines of a sweep, each with the loader alone."""

_TITLE = "Throughput against workers"
_MEASURED = (
    "Measured. Filled marks: loader and training step together, with 95 % intervals; open marks: the loader "
    "alone. Where filled marks reach the compute ceiling, more workers gain nothing; where open marks stop "
    "climbing, the machine has no more to give."
)
_MISSING = (
    "No sweep over num_workers, and no model of more workers, since the loader does not tell how long its "
    "workers need for a batch: `python -m benchmark sweep` with num_workers as an axis measures it."
)
_ANCHORS = (
    " Lines that end in a name: how many patches of 128\u00b3 one such accelerator takes in a second, as "
    "published results of MLPerf Training have it (dashes), or as MLPerf Storage emulates it (dots, *). A "
    "question mark: assumed, not published. A loader that alone stays below such a line could not feed it."
)
_NO_ANCHORS = " Published accelerators are left out: their rates are for patches of 128\u00b3."


def plot(profiles: Sequence[Profile]) -> Plot:
    """Of all points of sweeps over ``num_workers``; else the model of the first profile that has one."""
    shown = accelerators() if comparable(profiles) else []
    anchors = _ANCHORS if shown else _NO_ANCHORS
    if lines := series(profiles):
        return _measured(lines, shown, anchors)
    for profile in profiles:
        if model := profile.findings.optional("what_if"):
            whose = f" Of {profile.name}, the first that has a model." if len(profiles) > 1 else ""
            return _modelled(profile, model, shown, whose + anchors)
    return Plot(key="workers", title=_TITLE, caption="", says="", draw=None, missing=_MISSING)


def _measured(lines: Sequence[Series], shown: Sequence[Accelerator], anchors: str) -> Plot:
    drawn = lines[:MOST]
    left_out = f" The {MOST} fastest of {len(lines)} lines are drawn." if len(lines) > MOST else ""

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for index, one in enumerate(drawn):
            name = shortened(one.name, 28)
            style = {
                "color": line(index),
                "linestyle": DASHES[index],
                "marker": MARKERS[index],
                "markersize": 6,
            }
            _rates(axes, one.workers, one.together, f"{name}: together", linewidth=1.8, zorder=3, **style)
            _rates(
                axes,
                one.workers,
                one.alone,
                f"{name}: loader alone",
                linewidth=1,
                mfc=colour("surface"),
                **style,
            )
        ceilings = merged([one.ceiling for one in drawn if one.ceiling])
        counts = sorted({workers for one in drawn for workers in one.workers})
        rates = [e.value for one in drawn for e in (*one.together, *one.alone) if e.value]
        _finish(figure, axes, counts, rates, ceilings, shown, narrow)

    return Plot(
        key="workers",
        title=_TITLE,
        caption=_MEASURED + anchors + left_out,
        says=spoken([_in_words(one) for one in drawn]),
        draw=draw,
        heights=(460, 520),
    )


def _modelled(profile: Profile, model: Node, shown: Sequence[Accelerator], more: str) -> Plot:
    workers = [int(count) for count in model.numbers("workers")]
    modelled = [float(rate) for rate in model.numbers("images_per_s")]
    needed = model.number("needed_images_per_s")
    here = int((profile.results.number("workers") or 0) * (profile.results.number("world_size") or 1))
    statement = model.text("statement").rstrip(".")

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        label = "model, not measured"
        axes.plot(workers, modelled, color=line(0), linestyle=DASHES[1], linewidth=1.8, label=label)
        mark: dict[str, Any] = {"color": line(0), "marker": MARKERS[0], "markersize": 7, "linestyle": "none"}
        together, alone = profile.rate("both"), profile.rate("loader")
        _rates(axes, [here], [together], "measured: together", zorder=3, **mark)
        _rates(axes, [here], [alone], "measured: loader alone", mfc=colour("surface"), **mark)
        rates = [rate for rate in (*modelled, together.value, alone.value) if rate]
        _finish(figure, axes, sorted({*workers, here}), rates, [needed] if needed else [], shown, narrow)

    return Plot(
        key="workers",
        title=_TITLE,
        caption=f"The line is a model, not a measurement: {statement}. The marks were measured.{more}",
        says=f"A model: {statement}",
        draw=draw,
        heights=(440, 480),
    )


def _rates(axes: Axes, workers: Sequence[int], rates: Sequence[Estimate], label: str, **style: Any) -> None:
    """Rates with the bars of their intervals; those that are not known leave a gap."""
    values = [np.nan if rate.value is None else rate.value for rate in rates]
    axes.errorbar(workers, values, yerr=_bars(rates), capsize=3, label=label, **style)


def _bars(rates: Sequence[Estimate]) -> NDArray[np.float64]:
    """Distances to the ends of intervals, below and above; none where there is no interval."""
    ends = []
    for value, low, high in rates:
        if value is None or low is None or high is None:
            ends.append((0.0, 0.0))
        else:
            ends.append((max(0.0, value - low), max(0.0, high - value)))
    return np.array(ends).T


def _finish(
    figure: Figure,
    axes: Axes,
    counts: Sequence[int],
    rates: Sequence[float],
    ceilings: Sequence[float],
    shown: Sequence[Accelerator],
    narrow: bool,
) -> None:
    """Scales, ceilings, names, and the accelerators at the right."""
    values = [*rates, *ceilings, *(one.images_per_s for one in shown)]
    low, high = min(values) / 1.4, max(values) * 1.5
    left, right = min(counts) - 0.4, max(counts) + 0.4
    axes.set_yscale("log")
    axes.set(xlim=(left, right), ylim=(low, high))
    logarithmic(axes.yaxis, low, high)
    most = 6 if narrow else 12
    axes.set_xticks(counts[:: -(-len(counts) // most)])
    for index, top in enumerate(ceilings):
        axes.axhline(top, color=colour("ink"), linewidth=1.6, label=None if index else "compute ceiling")
        axes.annotate(number(top), (left, top), (4, 3), textcoords="offset points")
    name_axes(axes, "worker processes or threads (count)", "throughput (images/s, logarithmic)")
    legend(figure, axes, columns=1 if narrow else 2)
    name_accelerators(figure, axes, shown)


def _in_words(one: Series) -> str:
    rates = ", ".join(
        f"{number(rate.value)} images/s with {workers} workers"
        for workers, rate in zip(one.workers, one.together, strict=True)
    )
    return f"{one.name}: together {rates}"
