"""How long the step waited inside ``next()``: an empirical distribution."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.page.digits import count, number
from benchmark.page.figures.scales import legend, logarithmic, thinned
from benchmark.page.node import Array
from benchmark.page.palette import DASHES, MARKERS, colour, line
from benchmark.page.profiles import Profile, joined
from benchmark.page.svg import Plot, name_axes, shortened, spoken

NO_BOTTLENECK_MS = 0.05
"""tf.data: a ``next()`` of at most 50 us says that input is no bottleneck
(https://www.tensorflow.org/guide/data_performance_analysis)."""

LEAST_MS = 0.001
"""Records hold whole microseconds, and a logarithmic axis has no zero."""

_PERCENTILES = (("p50_ms", 50), ("p90_ms", 90), ("p99_ms", 99))
_POINTS = 400

_CAPTION = (
    "How many of all requests for a batch, in the timed windows of loader and training step together, were "
    "answered within the time on the x axis. In the shaded part, up to 50 \u00b5s, the input is no "
    "bottleneck, says tf.data's guide. A curve that rises only at the right is a loader that makes the step "
    "wait; a long flat top, one that sometimes does. Marks: the 50th, 90th and 99th percentile."
)


def plot(profiles: Sequence[Profile]) -> Plot:
    """Of those profiles whose waits are known."""
    waits = [joined([phase.wait for phase in profile.of("both")]) * 1e3 for profile in profiles]
    known = [(p, np.sort(w).clip(LEAST_MS)) for p, w in zip(profiles, waits, strict=True) if len(w)]
    return Plot(
        key="waits",
        title="How long the step waits for a batch",
        caption=_CAPTION,
        says=spoken([_in_words(profile, values) for profile, values in known]),
        draw=(lambda figure, narrow: _draw(figure, narrow, known)) if known else None,
        missing="No wait is known: the windows are not beside the records, or hold none.",
    )


def _draw(figure: Figure, narrow: bool, known: Sequence[tuple[Profile, Array]]) -> None:
    axes = figure.subplots()
    low = min(NO_BOTTLENECK_MS, *(values[0] for _, values in known)) / 1.6
    high = max(NO_BOTTLENECK_MS, *(values[-1] for _, values in known)) * 1.6
    axes.set_xscale("log")
    axes.set(xlim=(low, high), ylim=(0, 110), yticks=range(0, 101, 25))
    logarithmic(axes.xaxis, low, high)
    axes.axvspan(low, NO_BOTTLENECK_MS, color=colour("shade"), linewidth=0)
    axes.axvline(
        NO_BOTTLENECK_MS, color=colour("quiet"), linewidth=1.2, label="50 \u00b5s: no bottleneck below it"
    )
    for index, (profile, values) in enumerate(known):
        shares = 100 * np.arange(1, len(values) + 1) / len(values)
        kept = thinned(len(values), _POINTS)
        axes.step(
            np.concatenate([values[:1], values[kept]]),
            np.concatenate([[0.0], shares[kept]]),
            where="post",
            color=line(index),
            linestyle=DASHES[index],
            linewidth=1.8,
            label=shortened(profile.name, 38),
        )
        _mark_percentiles(axes, profile, index, named=len(known) == 1)
    name_axes(axes, "time inside next() (ms, logarithmic)", "requests answered so soon (%)")
    legend(figure, axes, columns=1 if narrow else 2)


def _mark_percentiles(axes: Axes, profile: Profile, index: int, named: bool) -> None:
    found = profile.findings.optional("wait")
    if found is None:
        return
    low, high = axes.get_xlim()
    for key, share in _PERCENTILES:
        value = found.number(key)
        if value is None:
            continue
        value = max(value, LEAST_MS)
        axes.plot(value, share, MARKERS[index], color=line(index), markersize=6, linestyle="none")
        if named:
            # Below a rising curve there is room at its right, above it at its left.
            right = np.log(value / low) < 0.5 * np.log(high / low)
            axes.annotate(
                f"p{share} {number(value)} ms",
                (value, share),
                (8, -3) if right else (-8, 3),
                textcoords="offset points",
                ha="left" if right else "right",
                va="top" if right else "bottom",
            )


def _in_words(profile: Profile, values: Array) -> str:
    p50, p90, p99 = (number(float(value)) for value in np.quantile(values, [0.5, 0.9, 0.99]))
    under = 100 * float((values <= NO_BOTTLENECK_MS).mean())
    return (
        f"{profile.name}: of {count(len(values))} requests {under:.0f} % took at most 50 microseconds; "
        f"median {p50} ms, p90 {p90} ms, p99 {p99} ms"
    )
