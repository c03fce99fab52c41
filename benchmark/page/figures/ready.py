"""How many finished batches were waiting at each request."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmark.page.digits import count
from benchmark.page.figures.scales import extremes, legend, thinned
from benchmark.page.figures.windows import Timeline, separate
from benchmark.page.palette import colour, line
from benchmark.page.profiles import Profile
from benchmark.page.svg import Plot, name_axes, shortened, spoken

_MARKS = 150

_CAPTION = (
    "Finished batches that were waiting each time the step asked for one, in the timed windows of loader and "
    "step together. At the top the loader is ahead, and the step is the limit; at zero the step takes every "
    f"batch as it is made, and waits for it (crosses, of which at most {_MARKS} are drawn). p and r: process "
    "and round of a window. Of more requests than fit, the smallest and the largest of each stretch are "
    "drawn."
)


def plot(profiles: Sequence[Profile]) -> Plot:
    """Of those whose loader tells."""
    known = [profile for profile in profiles if any(len(phase.ready) for phase in profile.of("both"))]
    height = 150 * len(known)
    return Plot(
        key="queue",
        title="The queue between loader and step",
        caption=_CAPTION,
        says=spoken([_in_words(profile) for profile in known]),
        draw=(lambda figure, narrow: _draw(figure, narrow, known)) if known else None,
        missing="No queue is known: the loader does not tell how many batches are ready, or the windows are "
        "not beside the record.",
        heights=(84 + height, 104 + height),
    )


def _draw(figure: Figure, narrow: bool, known: Sequence[Profile]) -> None:
    grid: list[Axes] = list(figure.subplots(len(known), 1, squeeze=False)[:, 0])
    for index, (profile, axes) in enumerate(zip(known, grid, strict=True)):
        timeline = Timeline(profile.of("both"), warmup=False)
        times, ready = timeline.requests()
        kept = extremes(ready, 260 if narrow else 600)
        axes.step(times[kept], ready[kept], where="post", color=line(index), linewidth=1)
        starved = np.flatnonzero(ready == 0)
        if len(starved):
            marked = times[starved[thinned(len(starved), _MARKS)]]
            axes.plot(
                marked,
                np.zeros(len(marked)),
                "x",
                color=colour("alarm"),
                markersize=6,
                clip_on=False,
                label="starved: nothing was ready",
            )
        queue = profile.findings.optional("queue")
        capacity = queue.number("capacity") if queue else None
        if capacity is not None:
            axes.axhline(capacity, color=colour("quiet"), linestyle=(0, (6, 2)), label="the queue is full")
        separate(axes, timeline, narrow)
        axes.set_ylim(0, max(float(ready.max()), capacity or 0.0, 1.0) * 1.3)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.set_title(shortened(profile.name, 40 if narrow else 90))
        name_axes(axes, "time, windows end to end (s)", "ready (batches)", index)
        axes.xaxis.label.set_visible(axes is grid[-1])
    telling = max(grid, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
    legend(figure, telling, columns=1 if narrow else 2)


def _in_words(profile: Profile) -> str:
    ready = Timeline(profile.of("both"), warmup=False).requests()[1]
    return (
        f"{profile.name}: {ready.mean():.1f} batches ready on average, {count(int((ready == 0).sum()))} of "
        f"{count(len(ready))} requests starved"
    )
