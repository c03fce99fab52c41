"""HTML by construction: whatever is not ``Markup`` is text, and escaped."""

import html
from collections.abc import Iterable, Sequence

from preprocess.untrusted import printable_lines

_SHORT = 26
"""Letters of a cell that is not broken into lines: numbers with their intervals."""


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """``text`` as HTML, for content and for quoted attributes; ``Markup`` as it is.

    Lines stay lines; other letters that steer something, or that UTF-8 has none for, are shown as escapes.
    """
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(printable_lines(str(text))))


def element(tag: str, *content: str, **attributes: str) -> Markup:
    """An element; ``class_`` gives ``class``, ``aria_label`` gives ``aria-label``."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escaped(value)}"' for name, value in attributes.items()
    )
    return Markup(f"<{tag}{given}>{together(content)}</{tag}>")


def together(parts: Iterable[str]) -> Markup:
    """Parts one after the other."""
    return Markup("".join(map(escaped, parts)))


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> Markup:
    """A titled table that scrolls inside its own box; the first cell of a row is its name.

    A row shorter than ``head`` is stretched over the rest by its last cell.
    """
    heads = element("tr", *[element("th", name, scope="col") for name in head])
    body = [_row(name, cells, len(head) - 1) for name, *cells in rows]
    drawn = element("table", element("thead", heads), element("tbody", *body))
    box = element("div", drawn, class_="box", tabindex="0", role="region", aria_label=title)
    return element("section", element("h2", title), box, element("p", note, class_="note") if note else "")


def _row(name: str, cells: Sequence[str], columns: int) -> Markup:
    drawn = [element("th", name, scope="row")]
    for index, cell in enumerate(cells):
        attributes = {"class_": "short"} if len(cell) <= _SHORT else {}
        if index == len(cells) - 1 and len(cells) < columns:
            attributes = {"class_": "reason", "colspan": str(columns - index)}
        drawn.append(element("td", cell, **attributes))
    return element("tr", *drawn)
