"""Windows put end to end on one axis of time."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from benchmark.page.node import Array
from benchmark.page.palette import colour
from benchmark.page.profiles import Phase, joined


class Timeline:
    """Where windows, their discarded steps and their requests lie, in seconds."""

    def __init__(self, phases: Sequence[Phase], warmup: bool) -> None:
        """Take ``phases`` in the order in which they ran, with their discarded steps or without them."""
        self.phases = phases
        self._discarded = [phase.warmup if warmup else phase.warmup[:0] for phase in phases]
        lengths = [
            float(first.sum() + phase.steps.sum())
            for first, phase in zip(self._discarded, phases, strict=True)
        ]
        self.edges = np.concatenate([[0.0], np.cumsum(lengths)])
        """Begin of each window, and the end of the last."""
        self.shaded = [
            (float(edge), float(edge + first.sum()))
            for edge, first in zip(self.edges[:-1], self._discarded, strict=True)
        ]
        """Begin and end of the discarded steps of each window."""

    def steps(self) -> list[tuple[Array, Array]]:
        """For each window the middles of its steps, and their durations."""
        found = []
        for edge, first, phase in zip(self.edges[:-1], self._discarded, self.phases, strict=True):
            durations = joined([first, phase.steps])
            found.append((edge + np.cumsum(durations) - durations / 2, durations))
        return found

    def requests(self) -> tuple[Array, Array]:
        """When batches were asked for, and how many were ready; evenly within a step that takes several."""
        times, ready = [], []
        for (_, begin), phase in zip(self.shaded, self.phases, strict=True):
            if len(phase.ready) and len(phase.steps):
                begins = begin + np.concatenate([[0.0], np.cumsum(phase.steps)])
                places = np.linspace(0, len(phase.steps), len(phase.ready), endpoint=False)
                times.append(np.interp(places, np.arange(len(begins)), begins))
                ready.append(phase.ready)
        return joined(times), joined(ready)


def separate(axes: Axes, timeline: Timeline, narrow: bool) -> None:
    """Draw lines between windows, and name them by process and round, as many as there is room for."""
    edges = timeline.edges
    axes.set_xlim(0, edges[-1] or 1.0)
    for edge in edges[1:-1]:
        axes.axvline(edge, color=colour("quiet"), linewidth=1)
    every = -(-len(timeline.phases) // (4 if narrow else 8))
    for index, phase in enumerate(timeline.phases[::every]):
        name = f"p{phase.process} r{phase.round}"
        axes.annotate(
            name,
            (edges[index * every], 1.0),
            (3, -3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
        )
