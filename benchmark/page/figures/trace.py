"""The durations of single steps over time: was it steady?"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.page.digits import count, number
from benchmark.page.figures.scales import legend, logarithmic, sampled
from benchmark.page.figures.windows import Timeline, separate
from benchmark.page.node import Array
from benchmark.page.palette import colour, line
from benchmark.page.profiles import ARMS, Phase, Profile, joined
from benchmark.page.svg import Plot, name_axes, shortened, spoken

_LOGARITHMIC_FROM = 5
"""Times its median that the longest step lasts, for a logarithmic axis."""

_CAPTION = (
    "One dot for each step, in the order in which they ran. Vertical lines separate the windows, named by "
    "process (p) and round (r); shaded are the steps that were discarded as warm-up. Dots that climb or fall "
    "within a window, or windows at different heights, say that this machine had no constant rate. Of more "
    "steps than fit, an even sample is drawn, with the shortest and the longest."
)


def plot(profiles: Sequence[Profile]) -> Plot:
    """Every arm of a single profile, or what ran together of each of several."""
    panels = _panels(profiles)
    height = 160 * len(panels)
    return Plot(
        key="trace",
        title="Was it steady? Every step over time",
        caption=_CAPTION,
        says=spoken([_in_words(name, phases) for name, phases in panels]),
        draw=(lambda figure, narrow: _draw(figure, narrow, panels)) if panels else None,
        missing="No steps are known: the windows are not beside the records.",
        heights=(84 + height, 104 + height),
    )


def _panels(profiles: Sequence[Profile]) -> list[tuple[str, list[Phase]]]:
    if len(profiles) == 1:
        arms = dict.fromkeys(phase.arm for phase in profiles[0].phases)
        found = [(ARMS.get(arm, arm), profiles[0].of(arm)) for arm in arms]
    else:
        found = [(profile.name, profile.of("both")) for profile in profiles]
    return [(name, phases) for name, phases in found if any(len(phase.steps) for phase in phases)]


def _draw(figure: Figure, narrow: bool, panels: Sequence[tuple[str, list[Phase]]]) -> None:
    grid: list[Axes] = list(figure.subplots(len(panels), 1, squeeze=False)[:, 0])
    most = 260 if narrow else 600
    for index, ((name, phases), axes) in enumerate(zip(panels, grid, strict=True)):
        timeline = Timeline(phases, warmup=True)
        for window, (begin, end) in enumerate(timeline.shaded):
            label = None if window else "discarded warm-up"
            axes.axvspan(begin, end, color=colour("shade"), linewidth=0, label=label)
        for window, (times, durations) in enumerate(timeline.steps()):
            kept = sampled(durations, max(20, most // len(phases)))
            _dots(axes, times[kept], durations[kept] * 1e3, line(index), None if window else "a step")
        steps = joined([phase.steps for phase in phases]) * 1e3
        median = float(np.median(steps))
        axes.axhline(median, color=colour("ink"), linestyle=(0, (4, 2)), linewidth=1, label="median")
        separate(axes, timeline, narrow)
        _scale(axes, joined([steps, *(phase.warmup * 1e3 for phase in phases)]), median)
        axes.set_title(
            shortened(name, 40) if narrow else f"{shortened(name, 70)}: median {number(median)} ms"
        )
        name_axes(axes, "time, windows end to end (s)", "step (ms)", index)
        axes.xaxis.label.set_visible(axes is grid[-1])
    legend(figure, grid[0], columns=2 if narrow else 3)


def _dots(axes: Axes, x: Array, y: Array, drawn_in: str, label: str | None) -> None:
    """All in one path, of lines that end where they begin: a marker for each would make a large page."""
    gaps = np.full(len(x), np.nan)
    axes.plot(
        np.column_stack([x, x, gaps]).ravel(),
        np.column_stack([y, y, gaps]).ravel(),
        color=drawn_in,
        linewidth=2.4,
        solid_capstyle="round",
        label=label,
    )


def _scale(axes: Axes, milliseconds: Array, median: float) -> None:
    """Logarithmic where a linear axis would press all but the longest steps flat; with room for the names."""
    low, high = float(milliseconds.min()), float(milliseconds.max())
    if high > _LOGARITHMIC_FROM * median and low > 0:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 3)
        logarithmic(axes.yaxis, low / 1.3, high * 3)
    else:
        axes.set_ylim(0, high * 1.35 or 1.0)


def _in_words(name: str, phases: Sequence[Phase]) -> str:
    steps = joined([phase.steps for phase in phases]) * 1e3
    median, longest = (number(float(value)) for value in (np.median(steps), steps.max()))
    many = f"{count(len(steps))} steps in {len(phases)} windows"
    return f"{name}: {many}, median {median} ms, longest {longest} ms"
