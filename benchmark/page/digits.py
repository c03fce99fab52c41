"""Numbers for people: no more digits than their intervals bear."""

import math
from collections.abc import Sequence

from benchmark.page.node import Estimate
from runtime.interval import Interval, show_parts

UNKNOWN = "not known"
_LISTED = 8


def number(value: float | None, digits: int = 3) -> str:
    """``value`` to ``digits`` significant digits, without an exponent."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    return _fixed(value, max(0, digits - 1 - _exponent(value)))


def exact(value: float | None) -> str:
    """A number that was set, not measured."""
    return UNKNOWN if value is None else f"{value:g}"


def unit(value: float | None, name: str) -> str:
    """``value`` with its unit."""
    return UNKNOWN if value is None else f"{number(value)} {name}"


def percent(value: float | None) -> str:
    """A fraction in percent, to a tenth."""
    return UNKNOWN if value is None else f"{_fixed(100 * value, 1)} %"


def count(value: float | None) -> str:
    """A whole number, in groups of three."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", "\u202f")


def interval(estimate: Estimate) -> str:
    """The value and, where there is one, its interval, with the digits that it bears."""
    value, low, high = estimate
    if value is None or low is None or high is None:
        return number(value)
    value_text, *ends = (text.replace("-", "\u2212") for text in show_parts(Interval(value, low, high)))
    return f"{value_text} [{', '.join(ends)}]"


def percent_interval(estimate: Estimate) -> str:
    """A fraction in percent, to a tenth, and its interval where there is one."""
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value)
    return f"{percent(estimate.value)} [{_fixed(100 * estimate.low, 1)}, {_fixed(100 * estimate.high, 1)}]"


def numbered(numbers: Sequence[int]) -> str:
    """``#1, #2 and #5``; of more than ``_LISTED`` only the first."""
    names = [f"#{one}" for one in numbers]
    if len(names) > _LISTED:
        names = [*names[: _LISTED - 1], f"{len(names) - _LISTED + 1} others"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return UNKNOWN
    for name in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{number(value)} {name}"
        value /= 1000
    return f"{number(value)} TB"


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def _fixed(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    # A negative number that rounds to nothing is nothing; others get a real minus sign.
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\u2212")
