"""Colours by name: figures are drawn in sentinels, which become the page's CSS variables.

The values are in page.css, once for light and once for dark. Lines come from Okabe and Ito's palette, which
colour-blind people can tell apart (https://jfly.uni-koeln.de/color/), darkened or lightened until they
stand out from the page; dashes, markers and hatches say the same again.
"""

import re

_NAMES = (
    "ink", "quiet", "grid", "surface", "shade", "alarm",
    "line-1", "line-2", "line-3", "line-4", "line-5", "line-6",
    "compute", "contention", "fetch", "prep", "transfer",
)  # fmt: skip
_SENTINEL = re.compile("#0a0b([0-9a-f]{2})")

MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-",
    (0, (6, 2)),
    (0, (2, 2)),
    (0, (8, 2, 2, 2)),
    (0, (1, 1)),
    (0, (12, 3)),
)
LINES = len(MARKERS)
"""How many lines of a figure can be told apart."""


def colour(name: str) -> str:
    """The sentinel to draw ``name`` in."""
    return f"#0a0b{_NAMES.index(name):02x}"


def line(index: int) -> str:
    """The sentinel of the ``index``-th line, from 0."""
    return colour(f"line-{index % LINES + 1}")


def themed(svg: str) -> str:
    """``svg`` with each sentinel as the variable of its name."""
    return _SENTINEL.sub(lambda found: f"var(--{_NAMES[int(found[1], 16)]})", svg)
