"""Rates, ratios and descriptions of step times: values, bounds and refusals."""

import numpy as np
import pytest
from scipy import stats
from simulated_steps import bursts, normal

from pipelines.errors import DataError
from runtime.long_run import count_cosines, student
from runtime.statistics import (
    Interval,
    Outliers,
    TooFewSteps,
    mapped,
    mean_of_rates,
    noise,
    paired_ratio,
    percentiles,
    quotient,
    rate,
    ratio,
    tukey_outliers,
)


def steps(count: int, seed: int = 0) -> list[float]:
    return normal(np.random.default_rng(seed), (1, count))[0].tolist()


def test_a_rate_is_items_over_time() -> None:
    windows = [steps(40), steps(100, 1)]
    found = rate(windows, 3.0, 8)
    assert found.value == pytest.approx(3 * 140 / (sum(windows[0]) + sum(windows[1])))
    assert found.low < found.value < found.high


def test_the_mean_of_rates_is_above_items_over_time() -> None:
    seconds = bursts(np.random.default_rng(0), (1, 400), 4, 0.05, 0.3)[0]
    assert mean_of_rates(seconds, 2) == pytest.approx(np.mean([2 / second for second in seconds]))
    assert mean_of_rates(seconds, 2) > 3 * rate([seconds], 2, 16).value


def test_the_unit_of_time_and_the_items_only_scale() -> None:
    window = steps(100)
    scaled = rate([[second / 1000 for second in window]], 6.0, 8)
    assert scaled == pytest.approx([3000 * end for end in rate([window], 2.0, 8)])


def test_steps_without_any_scatter_leave_no_doubt() -> None:
    for windows in ([[0.1] * 20], [[0.1] * 20, [0.1] * 30]):
        assert rate(windows, 1.0, 8) == pytest.approx((10, 10, 10), rel=1e-12)


def test_independent_steps_get_the_textbook_interval() -> None:
    window = steps(20_000)
    found = rate([window], 1.0, 8)
    textbook = 1.96 * np.std(window) / np.mean(window) / np.sqrt(len(window))
    assert np.log(found.high / found.value) == pytest.approx(textbook, rel=0.12)


def test_windows_that_differ_decide_by_their_own_spread() -> None:
    """With next to no scatter within, the interval is Student's of the windows' means."""
    means = np.array([1.0, 1.1, 0.95])
    windows = [(mean * (1 + 1e-4 * normal(np.random.default_rng(0), (1, 50))[0])).tolist() for mean in means]
    found = rate(windows, 1.0, 8)
    half = stats.t.ppf(0.975, 2) * means.std(ddof=1) / np.sqrt(3) / means.mean()
    assert np.log(found.high / found.value) == pytest.approx(half, rel=1e-3)


def test_strong_autocorrelation_takes_fewer_cosines_and_bursts_longer_blocks() -> None:
    rng = np.random.default_rng(0)
    independent, sticky = normal(rng, (1, 200))[0], normal(rng, (1, 200), 0.95)[0]
    assert count_cosines(independent, 8) == 13
    assert count_cosines(independent, 32) == 6
    assert count_cosines(sticky, 8) < 5
    assert count_cosines(independent, 100) == 2


@pytest.mark.parametrize("freedom", [1, 2, 2.5, 4, 13.2, 100, 3000])
@pytest.mark.parametrize("level", [0.975, 0.99, 0.995])
def test_students_quantile(level: float, freedom: float) -> None:
    assert student(level, freedom) == pytest.approx(stats.t.ppf(level, freedom), rel=1e-3)


def test_ratio_of_rates() -> None:
    fast, slow = [0.5 * second for second in steps(100)], steps(120, 1)
    found = ratio([fast], [slow], 8)
    assert found.value == pytest.approx(rate([fast], 1, 8).value / rate([slow], 1, 8).value)
    assert found.low < 2 < found.high
    turned = ratio([slow], [fast], 8)
    assert turned == pytest.approx((1 / found.value, 1 / found.high, 1 / found.low))


def test_a_slow_round_cancels_from_the_ratio_of_rounds() -> None:
    slow = (1.0, 1.5, 0.9)
    over = [[factor * second for second in steps(100, seed)] for seed, factor in enumerate(slow)]
    under = [[2 * factor * second for second in steps(80, 9 + seed)] for seed, factor in enumerate(slow)]
    found = ratio(over, under, 8, paired=True)
    assert 1.93 < found.low < 2 < found.high < 2.07
    assert ratio(over, under, 8).low < 1.2
    with pytest.raises(DataError, match="3 windows and 2 are no pairs"):
        ratio(over, under[:2], 8, paired=True)


def test_the_ratio_of_two_intervals_is_hardly_wider_than_that_of_their_steps() -> None:
    over, under = steps(200), steps(150, 1)
    direct = ratio([over], [under], 8)
    indirect = quotient(rate([over], 1, 8), rate([under], 1, 8))
    assert indirect.value == pytest.approx(direct.value)
    assert 1 <= np.log(indirect.high / indirect.low) / np.log(direct.high / direct.low) < 1.1


def test_a_ratio_to_something_exact_only_scales() -> None:
    assert quotient(Interval(3, 2, 4), Interval(2, 2, 2)) == pytest.approx((1.5, 1, 2))


def test_a_stall_has_the_interval_of_its_ratio_turned() -> None:
    assert mapped(Interval(0.8, 0.7, 0.95), lambda r: 1 - r) == pytest.approx((0.2, 0.05, 0.3))
    assert mapped(Interval(2, 1, 4), np.sqrt) == pytest.approx((2**0.5, 1, 2))


def test_pairs_agree_with_the_signed_rank_test() -> None:
    """A ratio is inside the interval where Wilcoxon's exact test of it does not reject at 5 %."""
    rng = np.random.default_rng(3)
    for pairs in (6, 9, 14):
        over, under = np.exp(rng.normal(0.1, 0.05, pairs)), np.exp(rng.normal(0, 0.05, pairs))
        found = paired_ratio(over, under)
        for end, inside in ((found.low, 1.0001), (found.high, 0.9999)):
            assert p_value(over, under, end * inside) > 0.05
            assert p_value(over, under, end / inside) <= 0.05


def p_value(over: np.ndarray, under: np.ndarray, truth: float) -> float:
    return float(stats.wilcoxon(np.log(over / under / truth), method="exact").pvalue)


def test_a_few_stalled_slices_move_the_ratio_of_pairs_little() -> None:
    rng = np.random.default_rng(0)
    over, under = np.exp(rng.normal(0, 0.01, (2, 20)))
    over[[3, 11]] /= 10
    found = paired_ratio(over, under)
    assert found.value == pytest.approx(1, abs=0.02)
    assert found.high - found.low < 0.05


@pytest.mark.parametrize("count", [0, 9, 15])
def test_too_few_steps_name_the_flags(count: int) -> None:
    with pytest.raises(
        TooFewSteps, match=rf"has {count} steps, .* needs 16 .*--seconds or --benchmark_steps"
    ):
        rate([steps(30), steps(count)], 1, 8)


def test_no_window_at_all() -> None:
    with pytest.raises(TooFewSteps, match="no timed window"):
        rate([], 1, 8)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([0.0] * 20, "shorter than the timer's resolution"),
        ([1.0] * 19 + [-1e-6], "negative or no number"),
        ([1.0] * 19 + [float("nan")], "negative or no number"),
        ([1.0] * 19 + [float("inf")], "negative or no number"),
    ],
)
def test_times_that_are_none(seconds: list[float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        rate([seconds], 1, 8)


@pytest.mark.parametrize(
    ("over", "under", "words"),
    [
        ([1.0] * 5, [1.0] * 5, "5 pairs of slices, and an interval needs 6"),
        ([1.0] * 7, [1.0] * 6, "7 rates and 6 are no pairs"),
        ([1.0] * 6, [1.0] * 5 + [0.0], "without a positive rate"),
        ([1.0] * 6, [1.0] * 5 + [float("inf")], "without a positive rate"),
    ],
)
def test_pairs_that_are_none(over: list[float], under: list[float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        paired_ratio(over, under)


def test_percentiles() -> None:
    assert percentiles([4, 1, 3, 2], (50, 90)) == pytest.approx((2.5, 3.7))
    assert len(percentiles(steps(30))) == 3


def test_outliers_are_counted_by_their_fence() -> None:
    quarter = [10.0, 11.0, 12.0, 13.0, 14.0] * 20  # quartiles 11 and 13: fences at 8 and 16, 5 and 19
    assert tukey_outliers(quarter) == Outliers(0, 0)
    assert tukey_outliers([*quarter, 16.5, 7.0, 19.5, 100.0, 1.0]) == Outliers(2, 3)


@pytest.mark.parametrize(
    ("spread", "grade"), [(0.04, "quiet"), (0.11, "noisy"), (0.24, "noisy"), (0.26, "too noisy")]
)
def test_noise_is_graded_by_the_interquartile_range(spread: float, grade: str) -> None:
    found = noise([1 - spread / 2, 1.0, 1 + spread / 2] * 20)
    assert found.iqr_over_median == pytest.approx(spread)
    assert found.grade == grade


def test_steps_below_the_timers_resolution_have_neither_noise_nor_rates() -> None:
    with pytest.raises(DataError, match="timer's resolution"):
        noise([0.0, 0.0, 1.0])
    with pytest.raises(DataError, match="zero seconds"):
        mean_of_rates([0.0, 1.0], 1)
