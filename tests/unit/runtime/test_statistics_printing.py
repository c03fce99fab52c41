"""Digits of an interval."""

import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtime.statistics import Interval, show, show_parts


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((360.3, 345.2, 372.1), "360 [345, 372]"),
        ((12.3412, 12.308, 12.3799), "12.34 [12.31, 12.38]"),
        ((43.68, 38.6, 49.9), "44 [39, 50]"),
        ((123456, 120000, 127000), "123000 [120000, 127000]"),
        ((-0.012, -0.031, 0.007), "-0.012 [-0.031, 0.007]"),
        ((2.31, 0.17, 23.4), "2.3 [0.2, 23.4]"),
        ((0.0, 0.0, 0.1234), "0.00 [0.00, 0.12]"),
        ((-0.001, -1, 1), "0.0 [-1.0, 1.0]"),
        ((1234560000, 1.2e9, 1.3e9), "1.23e9 [1.20e9, 1.30e9]"),
        ((3.2e-7, 3.1e-7, 3.35e-7), "3.20e-7 [3.10e-7, 3.35e-7]"),
        ((5, 5, 5), "5 [5, 5]"),
        ((1 / 3, 1 / 3, 1 / 3), "0.333333 [0.333333, 0.333333]"),
        ((0.3, 0.3, 0.1 + 0.2), "0.3 [0.3, 0.3]"),
        ((0, 0, 0), "0 [0, 0]"),
        ((1, 0, math.inf), "1 [0, inf]"),
    ],
)
def test_digits_are_those_that_the_interval_supports(interval: tuple[float, ...], text: str) -> None:
    assert show(Interval(*interval)) == text


def test_the_unit_stands_between_value_and_interval() -> None:
    assert show(Interval(360.3, 345.2, 372.1), "img/s") == "360 img/s [345, 372]"


@given(st.floats(-1e12, 1e12), st.floats(1e-12, 1e12), st.floats(0, 1))
def test_what_is_printed_is_near_what_was_found(low: float, width: float, where: float) -> None:
    interval = Interval(low + where * width, low, low + width)
    largest = max(map(abs, interval))
    assume(largest > 1e-12)
    printed = [float(part) for part in show_parts(interval)]
    off = max(abs(a - b) for a, b in zip(printed, interval, strict=True))
    assert off <= max(0.102 * width, 1e-5 * largest)
    assert printed[1] <= printed[0] <= printed[2]
    assert not any(re.match(r"-0(\.0*)?(e|$)", part) for part in show_parts(interval))
