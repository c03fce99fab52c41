"""What files from elsewhere hold is shown and computed with, never obeyed."""

import unicodedata
from typing import Any


def printable(text: str) -> str:
    """``text`` for a terminal or a page, which any stream can take: nothing in it moves the cursor or turns
    lines around. What is no letter, mark, digit or space becomes an escape, as ``\\x1b`` or ``\\n``."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else repr(letter)[1:-1]
        for letter in text
    )


def printable_lines(text: str) -> str:
    """``text`` with each of its lines ``printable``."""
    return "\n".join(map(printable, text.split("\n")))


def is_shallow(value: Any, levels: int) -> bool:
    """Whether lists and objects of plain JSON lie in each other no deeper than ``levels``.

    ``json`` reads a thousand levels, which whoever walks through them afterwards may not bear.
    """
    if not isinstance(value, list | dict):
        return True
    members = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(is_shallow(member, levels - 1) for member in members)
