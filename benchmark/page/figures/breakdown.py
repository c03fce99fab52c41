"""Where the time of a step goes: stacked bars, one for each measurement."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmark.page.digits import number
from benchmark.page.figures.scales import legend
from benchmark.page.node import Node
from benchmark.page.palette import colour
from benchmark.page.profiles import SHOWN, Profile
from benchmark.page.svg import Plot, name_axes, shortened, spoken

PARTS = ("compute", "contention", "fetch", "prep", "transfer")
HATCHES = ("", "///", "||", "\\\\\\", "xx")
MOST = 24
"""Bars."""

_CAPTION = (
    "The whole bar is a mean step of loader and training step together. Compute: what the step takes on "
    "batches that are already there. Contention: how much longer it computes while the loader works beside "
    "it. Fetch, prep, transfer: how long it had nothing to do, because data was being read, made ready, or "
    "moved to the device. Another loader can shorten everything but compute."
)


@dataclass(frozen=True)
class Bar:
    """One mean step."""

    name: str
    parts: tuple[float, ...]
    """Milliseconds, as ``PARTS``."""

    @property
    def total(self) -> float:
        """Milliseconds."""
        return sum(self.parts)


def plot(profiles: Sequence[Profile]) -> Plot:
    """Of ``profiles``, which come fastest first; those that are drawn, in order of their numbers."""
    cold = len(profiles) <= SHOWN
    bars = [bar for profile in profiles for bar in _bars(profile, cold)]
    chosen = {bar.name for bar in bars[:MOST]}
    ordered = sorted(profiles, key=lambda profile: profile.number)
    drawn = [bar for profile in ordered for bar in _bars(profile, cold) if bar.name in chosen]
    left_out = f" The first {MOST} of {len(bars)}, the fastest first, are drawn." if len(bars) > MOST else ""
    height = 124 + 46 * len(drawn)
    return Plot(
        key="breakdown",
        title="Where the time of a step goes",
        caption=_CAPTION + left_out,
        says=spoken([_in_words(bar) for bar in drawn]),
        draw=(lambda figure, narrow: _draw(figure, narrow, drawn)) if drawn else None,
        missing="No step was measured, so there is nothing to divide.",
        heights=(height, height + 24),
    )


def _draw(figure: Figure, narrow: bool, bars: Sequence[Bar]) -> None:
    axes = figure.subplots()
    longest = max(bar.total for bar in bars) or 1.0
    pixels_per_ms = (300 if narrow else 640) / longest
    for index, (part, hatch) in enumerate(zip(PARTS, HATCHES, strict=True)):
        widths = [bar.parts[index] for bar in bars]
        starts = [sum(bar.parts[:index]) for bar in bars]
        axes.barh(
            range(len(bars)),
            widths,
            left=starts,
            height=0.46,
            color=colour(part),
            hatch=hatch,
            edgecolor=colour("surface"),
            linewidth=0.8,
            label=part,
        )
        for row, (start, width) in enumerate(zip(starts, widths, strict=True)):
            text = number(width)
            if width * pixels_per_ms > 8 * len(text) + 8:
                box = {"boxstyle": "round,pad=0.15", "fc": colour("surface"), "ec": "none"}
                axes.text(start + width / 2, row, text, ha="center", va="center", bbox=box)
    for row, bar in enumerate(bars):
        # Above the bar, a name of any length takes no room from it.
        name = shortened(bar.name, 34 if narrow else 80)
        axes.text(0, row - 0.28, f"{name}: {number(bar.total)} ms", va="bottom")
    axes.set_ylim(len(bars) - 0.6, -0.75)
    axes.set_xlim(0, longest * 1.02)
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    name_axes(axes, "time of a mean step (ms)", "measurement")
    legend(figure, axes, columns=3 if narrow else len(PARTS))


def _bars(profile: Profile, cold: bool) -> list[Bar]:
    """Of the windows with a warm page cache and, if asked for, of those with an empty one."""
    bars = [Bar(profile.name, _parts(profile.findings))]
    if cold and (findings := profile.findings.maybe("cold")):
        bars.append(Bar(f"{profile.name}, empty page cache", _parts(findings)))
    return bars


def _parts(findings: Node) -> tuple[float, ...]:
    node = findings.child("breakdown_ms")
    return tuple(max(0.0, node.number(part) or 0.0) for part in PARTS)


def _in_words(bar: Bar) -> str:
    parts = ", ".join(f"{part} {number(ms)} ms" for part, ms in zip(PARTS, bar.parts, strict=True))
    return f"{bar.name}: a mean step of {number(bar.total)} ms: {parts}"
