"""Figures as inline SVG: a wide one, and a narrow one for phones; CSS shows one of them.

Text stays text in the page's font and size, so that it is legible at either width, selectable and searchable.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmark.page.markup import Markup, element, escaped
from benchmark.page.palette import colour, themed

WIDE, NARROW = 720, 360
"""Pixels."""

_SPOKEN = 8
_TAG = re.compile(r"<[^>]+>")
_ATTRIBUTE = re.compile(r' (?:d|x|y|transform)="[^"]*"')
_LONG = re.compile(r"-?\d+\.\d{3,}")

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "voxelrate",
    "text.parse_math": False,  # a dollar sign in somebody's record is a dollar sign
    "font.family": ["DejaVu Sans"],
    "font.size": 12.5,
    "legend.fontsize": 12.5,
    "axes.titlesize": 12.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 12.5,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "path.simplify": False,
    "text.color": colour("ink"),
    "axes.labelcolor": colour("ink"),
    "axes.edgecolor": colour("quiet"),
    "xtick.color": colour("quiet"),
    "ytick.color": colour("quiet"),
    "xtick.labelcolor": colour("ink"),
    "ytick.labelcolor": colour("ink"),
    "grid.color": colour("grid"),
    "hatch.color": colour("surface"),
    "patch.edgecolor": colour("surface"),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure that is still to be drawn."""

    key: str
    """What its ids begin with; one for each figure of a page."""
    title: str
    caption: str
    """How to read it."""
    says: str
    """What it shows, in a sentence, for those who do not see it."""
    draw: Callable[[Figure, bool], None] | None
    """Called with an empty figure, and whether it is the narrow one; None where there is no data."""
    missing: str = ""
    """Why there is no data."""
    heights: tuple[int, int] = (400, 380)
    """Pixels, of the wide and the narrow one."""


def figure(plot: Plot) -> Markup:
    """The ``<figure>`` of a plot."""
    head = element("h2", plot.title)
    if plot.draw is None:
        return element("figure", head, element("p", plot.missing, class_="missing"), id=plot.key)
    drawn = [_inline(plot, narrow) for narrow in (False, True)]
    return element("figure", head, *drawn, element("figcaption", plot.caption), id=plot.key)


def name_axes(axes: Axes, x: str, y: str, panel: int = 0) -> None:
    """Label both axes of the figure's ``panel``-th axes, in elements whose ids say what they are."""
    axes.set_xlabel(x, gid=f"x-label-{panel}")
    axes.set_ylabel(y, gid=f"y-label-{panel}")


def spoken(parts: Sequence[str]) -> str:
    """What ``Plot.says`` of many points: of the first of them, since nobody listens to them all."""
    left = len(parts) - _SPOKEN
    return "; ".join([*parts[:_SPOKEN], *([f"and {left} more"] if left > 0 else [])])


def shortened(text: str, letters: int) -> str:
    """``text`` cut to ``letters`` for a label; it is whole in the tables."""
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "\u2026"


def _inline(plot: Plot, narrow: bool) -> Markup:
    width, height = (NARROW if narrow else WIDE), plot.heights[narrow]
    drawn = _drawn(plot, narrow, width, height)
    start, end = drawn.index("<svg"), drawn.rindex("</svg>")
    inside = drawn[drawn.index(">", start) + 1 : end]
    inside = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    kind = "narrow" if narrow else "wide"
    inside = _TAG.sub(lambda tag: _own(tag[0], f"{plot.key}-{kind}-"), inside)
    inside = re.sub(r"\s*\n\s*", " ", inside)
    return Markup(
        f'<svg class="{kind}" role="img" aria-label="{escaped(plot.says)}" viewBox="0 0 {width} {height}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escaped(plot.title)}</title>{inside}</svg>'
    )


def _own(tag: str, prefix: str) -> str:
    """A tag, not what is between tags, with ids that no other figure has, and the page's font and colours."""
    tag = re.sub(r'\bid="', f'id="{prefix}', tag)
    tag = re.sub(r"url\(#", f"url(#{prefix}", tag)
    tag = re.sub(r'xlink:href="#', f'href="#{prefix}', tag)
    tag = re.sub(r"font-family: [^;\"]*; ?", "", tag)
    return themed(_ATTRIBUTE.sub(lambda found: _LONG.sub(_hundredths, found[0]), tag))


def _hundredths(found: re.Match[str]) -> str:
    """Of a pixel: finer places are half of a page."""
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _drawn(plot: Plot, narrow: bool, width: int, height: int) -> str:
    assert plot.draw is not None
    written = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        # The browser draws the text, in a font that has more letters than the one it is measured in.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        drawing = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        FigureCanvasSVG(drawing)
        plot.draw(drawing, narrow)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(written, format="svg", transparent=True, metadata=nothing)
    return written.getvalue()
