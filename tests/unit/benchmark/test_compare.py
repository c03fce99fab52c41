"""``python -m benchmark compare``: the rule, and the verdicts by it."""

from pathlib import Path

import pytest
from compared_records import Compare, benchmark, profile, results, sweep

from benchmark.ratio import EXIT_STATUS, Verdict, judge, possible, worst
from runtime.statistics import Interval


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    return Compare(tmp_path, capsys)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "left"),
    [
        (0.90, 0.96, "SLOWER", ["SLOWER"]),
        (1.04, 1.20, "FASTER", ["FASTER"]),
        (0.98, 1.02, "SAME", ["SAME"]),
        (0.97, 1.03, "SAME", ["SAME"]),
        (0.96, 1.01, "AMBIGUOUS", ["SLOWER", "SAME"]),
        (0.99, 1.08, "AMBIGUOUS", ["SAME", "FASTER"]),
        (1.02, 1.08, "AMBIGUOUS", ["SAME", "FASTER"]),
        (0.80, 1.30, "AMBIGUOUS", ["SLOWER", "SAME", "FASTER"]),
    ],
)
def test_the_rule(low: float, high: float, verdict: str, left: list[str]) -> None:
    ratio = Interval((low + high) / 2, low, high)
    assert judge(ratio, 0.03) == verdict
    assert possible(ratio, 0.03) == left


def test_the_worst_decides() -> None:
    assert EXIT_STATUS[worst([Verdict.FASTER, Verdict.SAME])] == 0
    assert worst([Verdict.AMBIGUOUS, Verdict.SAME]) == Verdict.AMBIGUOUS
    assert worst([Verdict.AMBIGUOUS, Verdict.INCOMPARABLE]) == Verdict.INCOMPARABLE
    assert worst(Verdict) == Verdict.SLOWER


@pytest.mark.parametrize(
    ("both", "width", "status", "word"),
    [
        (20.1, 0.01, 0, "SAME"),
        (23.0, 0.01, 0, "FASTER"),
        (18.0, 0.01, 3, "SLOWER"),
        (20.7, 0.01, 4, "AMBIGUOUS (SAME or FASTER)"),
        (20.0, 0.1, 4, "AMBIGUOUS (SLOWER or SAME or FASTER)"),
    ],
)
@pytest.mark.parametrize("suite", ["profile", "benchmark"])
def test_verdict_and_exit_status(
    compare: Compare, suite: str, both: float, width: float, status: int, word: str
) -> None:
    if suite == "profile":
        found = compare(profile(width=width), profile(both=both, width=width))
    else:
        found = compare(benchmark(20, width), benchmark(both, width))
    assert found[0] == status
    lines = found[1].splitlines()
    assert next(line for line in lines if line.startswith("both ")).endswith(word)
    assert lines[-1] == f"both: {word.split()[0]}"


def test_all_arms_are_printed_and_one_decides(compare: Compare) -> None:
    records = profile(), profile(loader=40, step=33)
    status, text = compare(*records)
    assert status == 0
    verdicts = {line.split()[0]: line.split()[-1] for line in text.splitlines()[3:6]}
    assert verdicts == {"loader": "SLOWER", "step": "FASTER", "both": "SAME"}
    assert "50.0 img/s [49.5, 50.5]" in text
    assert "0.800 [0.789, 0.811]" in text
    assert compare(*records, "--arm", "loader")[0] == 3
    assert compare(*records, "--arm", "loader", "--noise_floor", "0.3")[0] == 0


def test_points_of_sweeps_are_matched_by_their_flags(compare: Compare) -> None:
    a = sweep({"1": results(), "2": results(both=25), "4": "no memory"})
    b = sweep({"2": results(both=25.1), "1": results(both=10), "4": "no memory", "8": results()})
    status, text = compare(a, b)
    assert status == 3
    verdicts = {tuple(line.split()[:2]): line.split()[-1] for line in text.splitlines() if "img/s" in line}
    assert len(verdicts) == 6
    assert verdicts["num_workers=1", "both"] == "SLOWER"
    assert verdicts["num_workers=2", "both"] == "SAME"
    assert "num_workers=4: failed no memory in A: not compared" in text
    assert "num_workers=8: only in B: not compared" in text


def test_a_point_that_is_lost_is_no_success(compare: Compare) -> None:
    a = sweep({"1": results(), "2": results(), "3": results()})
    status, text = compare(a, sweep({"1": results(), "2": "no memory"}))
    assert status == 5
    assert "INCOMPARABLE num_workers=2: failed no memory in B" in text
    assert "INCOMPARABLE num_workers=3: not in B" in text


def test_unsteady_windows_are_named(compare: Compare) -> None:
    unsteady = profile()
    unsteady.results["findings"]["rates"]["step"] |= {"steady": False, "unsteady_because": "it drifts"}
    status, text = compare(profile(), unsteady)
    assert status == 0
    assert "step in B: UNSTEADY: it drifts" in text


def test_a_rate_without_interval_is_one_sentence_where_it_decides(compare: Compare) -> None:
    short = profile()
    short.results["findings"]["rates"]["both"] |= {"low": None, "high": None, "unsteady_because": "7 steps"}
    status, text = compare(profile(), short)
    assert status == 1
    assert "no verdict on both without its interval: 7 steps" in text
    status, text = compare(profile(), short, "--arm", "step")
    assert status == 0
    assert "both in B: no interval: 7 steps" in text
    assert compare(benchmark(20), benchmark(20, images_per_second_low=None))[0] == 1


def test_the_arm_must_be_there(compare: Compare) -> None:
    status, text = compare(benchmark(20), benchmark(20), "--arm", "loader")
    assert status == 1
    assert "no rate of loader is in both records: choose --arm both" in text
