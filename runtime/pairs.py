"""The ratio of two rates that were measured in turns."""

from collections.abc import Sequence

import numpy as np

from pipelines.errors import DataError
from runtime.interval import Interval
from runtime.long_run import LEVEL, TooFewSteps

MIN_PAIRS = 6
"""Of the signed ranks of five pairs no outcome is rarer than 1 in 16: there is no 95 % interval."""


def paired_ratio(over: Sequence[float], under: Sequence[float]) -> Interval:
    """The ratio of two rates that were measured in turns: pair i are neighbours in time.

    What slows the machine down slows both of a pair, and cancels. The estimate is Hodges and Lehmann's, the
    median of all means of two logarithmic ratios, and the interval that of Wilcoxon's signed ranks, exact for
    differences that are as likely up as down: it covers 94 to 98 % also where every tenth slice is up to ten
    times slower and Student's interval several times wider. The pairs must be independent of each other; let
    the order alternate. Where only one side stalls now and then, the typical ratio is found, not the ratio of
    the mean rates.

    Args:
        over: Rates, at least `MIN_PAIRS`.
        under: As many rates, each measured beside that of ``over``.

    Raises:
        TooFewSteps: too few pairs.
        DataError: another number of rates on one side, or a rate that is not positive.
    """
    rates = [np.asarray(side, dtype=np.float64) for side in (over, under)]
    pairs = len(rates[0])
    if pairs != len(rates[1]):
        raise DataError(f"{pairs} rates and {len(rates[1])} are no pairs: measure both sides equally often")
    if pairs < MIN_PAIRS:
        raise TooFewSteps(f"{pairs} pairs of slices, and an interval needs {MIN_PAIRS}: raise --seconds")
    if not all((np.isfinite(side) & (side > 0)).all() for side in rates):
        raise DataError("a slice without a positive rate: make slices longer")
    logs = np.log(rates[0]) - np.log(rates[1])
    first, second = np.triu_indices(pairs)
    means = np.sort((logs[first] + logs[second]) / 2)
    outside = _outside(pairs)
    found = np.exp([np.median(means), means[outside - 1], means[-outside]])
    return Interval(*map(float, found))


def _outside(pairs: int) -> int:
    """How many means from either end the interval of the signed ranks begins.

    The largest c with P(T < c) <= 2.5 %, where T is the sum of the ranks 1..pairs, each taken with
    probability 1/2 (Hollander & Wolfe, Nonparametric Statistical Methods, section 3.3).
    """
    probability = np.zeros(pairs * (pairs + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, pairs + 1):
        shifted = np.concatenate([np.zeros(rank), probability[:-rank]])
        probability = (probability + shifted) / 2
    return int(np.searchsorted(np.cumsum(probability), 1 - LEVEL, side="right"))
