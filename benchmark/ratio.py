"""What a ratio of two rates with its interval says, in one word.

The rule, for the 95 % interval [low, high] of the rate of B over that of A, and a noise floor f below which
nobody cares about a difference (3 % unless said otherwise; MLPerf Storage calls runs within 5 % replicas):

* ``SLOWER``  where high < 1 - f: all that is plausible is a loss worth speaking of.
* ``FASTER``  where low > 1 + f.
* ``SAME``    where 1 - f <= low and high <= 1 + f: what is plausible is within the floor. An interval that
  merely contains 1 does not prove two rates the same, since a poor measurement has a wide one.
* ``AMBIGUOUS`` else: the measurement cannot tell. What it leaves possible is named beside it; longer windows
  or more rounds decide.

Two equal rates are called SLOWER or FASTER in far fewer than 5 of 100 comparisons, since the interval has to
lie beyond the floor as well. A window that was not steady keeps its verdict, and is named: a warm-up that
both share changes nothing. ``INCOMPARABLE`` are records of different things.
"""

from collections.abc import Iterable
from enum import StrEnum

from runtime.statistics import Interval

NOISE_FLOOR = 0.03
QUICK_FLOOR = 0.05
"""For 20 seconds of each side, which cannot tell less: what MLPerf Storage allows between replicas."""


class Verdict(StrEnum):
    """On B against A."""

    SAME = "SAME"
    FASTER = "FASTER"
    AMBIGUOUS = "AMBIGUOUS"
    INCOMPARABLE = "INCOMPARABLE"
    SLOWER = "SLOWER"


EXIT_STATUS = {
    Verdict.SAME: 0,
    Verdict.FASTER: 0,
    Verdict.AMBIGUOUS: 4,
    Verdict.INCOMPARABLE: 5,
    Verdict.SLOWER: 3,
}
"""For the process, from the best to the worst: a loss that is proven outweighs what could not be compared."""


def judge(ratio: Interval, floor: float = NOISE_FLOOR) -> Verdict:
    """The verdict on the rate of B over that of A, by the rule at the head of this file."""
    if ratio.high < 1 - floor:
        return Verdict.SLOWER
    if ratio.low > 1 + floor:
        return Verdict.FASTER
    if 1 - floor <= ratio.low and ratio.high <= 1 + floor:
        return Verdict.SAME
    return Verdict.AMBIGUOUS


def possible(ratio: Interval, floor: float = NOISE_FLOOR) -> list[Verdict]:
    """The verdicts that the interval does not rule out; one of them where it is not ambiguous."""
    found = []
    if ratio.low < 1 - floor:
        found.append(Verdict.SLOWER)
    if ratio.low <= 1 + floor and ratio.high >= 1 - floor:
        found.append(Verdict.SAME)
    if ratio.high > 1 + floor:
        found.append(Verdict.FASTER)
    return found


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The one of several that decides; there must be one."""
    order = list(EXIT_STATUS)
    return max(verdicts, key=order.index)
