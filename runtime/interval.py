"""A number with its 95 % interval, and how both are printed."""

import math
from collections.abc import Callable
from typing import NamedTuple

UNITS_IN_WIDTH = 5
"""An interval spans at least this many units of the last digit that is printed."""


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval, in the estimate's unit."""

    value: float
    low: float
    high: float


def mapped(interval: Interval, function: Callable[[float], float]) -> Interval:
    """The interval of a monotone function of what is estimated, such as ``lambda ratio: 1 - ratio``.

    A data stall is ``mapped(ratio(both, step, block), lambda r: 1 - r)``: no approximation is made, since a
    95 % interval stays one under a monotone function.
    """
    low, high = sorted((function(interval.low), function(interval.high)))
    return Interval(function(interval.value), low, high)


def quotient(over: Interval, under: Interval) -> Interval:
    """The ratio of two positive quantities that were measured independently, from their intervals alone.

    On the logarithmic scale, distances from the estimates to the ends add up as squares (MOVER: Donner & Zou,
    Statistical Methods in Medical Research 21, 2012). Where the step times are at hand, `statistics.ratio` is
    a little narrower.
    """
    value = over.value / under.value
    down = math.hypot(math.log(over.value / over.low), math.log(under.high / under.value))
    up = math.hypot(math.log(over.high / over.value), math.log(under.value / under.low))
    return Interval(value, value * math.exp(-down), value * math.exp(up))


def show(interval: Interval, unit: str = "") -> str:
    """``360 img/s [345, 372]``: see `show_parts` for the digits."""
    value, low, high = show_parts(interval)
    return f"{value}{' ' if unit else ''}{unit} [{low}, {high}]"


def show_parts(interval: Interval) -> tuple[str, str, str]:
    """Value, low and high with no digit finer than the interval supports.

    The last digit's unit is the largest power of ten of which the interval spans at least `UNITS_IN_WIDTH`;
    of a lopsided interval twice its shorter side counts, or the value would be lost. Six significant digits
    are enough for any. Numbers of ten million and more, and those below 1/10000, are written with an exponent
    that the three share.
    """
    largest = max(map(abs, interval))
    if not all(map(math.isfinite, interval)) or largest == 0:
        value, low, high = (f"{number:g}" for number in interval)
        return value, low, high
    power = math.floor(math.log10(largest))
    sides = (interval.value - interval.low, interval.high - interval.value)
    width = min([sum(sides), *(2 * side for side in sides if side > 0)])
    finest = power - 5
    wide = width > UNITS_IN_WIDTH * 10.0**finest
    last = math.floor(math.log10(width / UNITS_IN_WIDTH)) if wide else finest
    exponent = power if not -4 <= power < 7 else 0
    suffix = f"e{exponent}" if exponent else ""

    def text(number: float) -> str:
        rounded = round(number, -last) / 10.0**exponent + 0.0  # -0.0 + 0.0 is 0.0
        digits = f"{rounded:.{max(exponent - last, 0)}f}"
        return (digits if wide or "." not in digits else digits.rstrip("0").rstrip(".")) + suffix

    value, low, high = map(text, interval)
    return value, low, high
