"""The figures of the page: what they draw, and what they say where there is nothing to draw."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmark.anchors import ANCHORS
from benchmark.page.digits import count, interval, number, numbered, percent, percent_interval, size
from benchmark.page.figures import breakdown, ready, roofline, trace, waits, workers
from benchmark.page.figures.accelerators import accelerators
from benchmark.page.figures.scales import apart, beside, extremes, merged, sampled, thinned
from benchmark.page.figures.series import series
from benchmark.page.figures.windows import Timeline
from benchmark.page.gather import find, gather
from benchmark.page.node import Estimate
from benchmark.page.palette import DASHES, LINES, MARKERS
from benchmark.page.profiles import Gathered, Phase
from benchmark.page.svg import Plot, figure, shortened
from tests.unit.benchmark.page_records import nulled, profile_results, record, write_sweep

PLOTS = (breakdown.plot, waits.plot, workers.plot, roofline.plot, ready.plot, trace.plot)


def one(**options: Any) -> Gathered:
    return gather([("a", record("profile", profile_results(**({"steps": 40, "rounds": 2} | options))))])


@pytest.fixture(scope="module")
def single() -> Gathered:
    return one()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    return gather(find([write_sweep(tmp_path_factory.mktemp("swept"), steps=30)]))


def drawn(plot: Plot, narrow: bool = False) -> Figure:
    """The figure of a plot, in matplotlib's own terms."""
    figure = Figure(layout="constrained")
    assert plot.draw is not None
    plot.draw(figure, narrow)
    return figure


def test_digits() -> None:
    assert [number(v) for v in (None, 0, 0.02, 1234.5, 99.96, -0.5)] == [
        "not known", "0", "0.0200", "1234", "100.0", "\u22120.500"
    ]  # fmt: skip
    assert interval(Estimate(56.88, 56.03, 57.85)) == "56.9 [56.0, 57.9]"
    assert interval(Estimate(56.88, None, None)) == "56.9"
    assert percent_interval(Estimate(0.252, -0.0004, 0.264)) == "25.2 % [0.0, 26.4]"
    assert percent_interval(Estimate(0.252, None, 0.3)) == "25.2 %"
    assert percent(None) == "not known"
    assert [numbered(list(range(1, n))) for n in (2, 4, 20)] == [
        "#1", "#1, #2 and #3", "#1, #2, #3, #4, #5, #6, #7 and 12 others"
    ]  # fmt: skip
    assert count(1234567) == "1\u202f234\u202f567"
    assert [size(v) for v in (999, 29e6, 2e13)] == ["999 B", "29.0 MB", "20.0 TB"]


def test_lines_differ_without_their_colours() -> None:
    assert len(set(MARKERS)) == len(set(DASHES)) == LINES


def test_what_is_left_out_is_not_what_stands_out() -> None:
    values = np.full(10_000, 5.0)
    values[[17, 4_321]] = 0.0, 99.0
    for kept in (extremes(values, 100), sampled(values, 100)):
        assert len(kept) <= 100
        assert {17, 4_321} <= set(kept)
        assert (np.diff(kept) > 0).all()
    assert list(extremes(values[:50], 100)) == list(sampled(values[:50], 100)) == list(range(50))
    assert list(thinned(9, 3)) == [0, 4, 8]


def test_close_rates_are_one_ceiling() -> None:
    assert merged([76.0, 40.0, 74.0, 75.0]) == [40.0, 75.0]


def test_labels_keep_apart() -> None:
    moved = apart([0.0, 1.0, 2.0, 50.0], 10.0)
    assert min(b - a for a, b in itertools.pairwise(moved)) > 10 - 1e-6
    assert np.mean(moved[:3]) == pytest.approx(1.0)
    assert moved[3] == 50.0
    together = [np.zeros(2), np.zeros(2), np.array([100.0, 0.0])]
    offsets = beside(together, 16)
    assert len(set(offsets[:2])) == 2
    assert all(np.hypot(*offset) == pytest.approx(16) for offset in offsets)


def test_a_bar_is_the_mean_step(single: Gathered) -> None:
    axes = drawn(breakdown.plot(single.profiles)).axes[0]
    lengths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    together = single.profiles[0].rates["both"]
    mean_ms = 1000 * (together.number("window_s") or 0) / (together.number("steps") or 1)
    assert lengths.sum(axis=0)[0] == pytest.approx(mean_ms, rel=1e-6)
    assert lengths.shape == (5, 2)  # warm, and from an empty page cache
    assert len({bars[0].get_hatch() for bars in axes.containers}) == 5


def test_the_slowest_of_many_bars_are_left_out_and_said(
    swept: Gathered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakdown, "MOST", 3)
    plot = breakdown.plot(swept.fastest)
    assert plot.caption.endswith("The first 3 of 9, the fastest first, are drawn.")
    assert [words.split()[0] for words in plot.says.split("; ")] == ["#5", "#6", "#10"]


def test_waits_are_a_distribution_beside_the_line_of_tfdata(single: Gathered) -> None:
    axes = drawn(waits.plot(single.profiles)).axes[0]
    line, curve = axes.lines[:2]
    assert line.get_xdata()[0] == 0.05
    heights = np.asarray(curve.get_ydata())
    assert heights[0] == 0
    assert heights[-1] == 100
    assert (np.diff(heights) >= 0).all()
    assert axes.get_xscale() == "log"
    texts = [text.get_text() for text in axes.texts]
    assert [text.split()[0] for text in texts] == ["p50", "p90", "p99"]


def test_a_sweep_over_workers_is_drawn_as_it_was_measured(swept: Gathered) -> None:
    lines = series(swept.profiles)
    assert [(line.name, line.workers) for line in lines] == [
        ("loader=pytorch", (1, 2, 3, 4, 6, 8)),
        ("loader=dali", (1, 2, 4)),
    ]
    plot = workers.plot(swept.fastest)
    assert plot.caption.startswith("Measured.")
    texts = [text.get_text() for text in drawn(plot).axes[0].texts]
    assert {"H200 76.0", "B200* 43.2?", "A100* 11.0"} <= set(texts)
    assert "76.0" in texts  # the compute ceiling


def test_a_profile_has_a_model_and_says_so(single: Gathered) -> None:
    plot = workers.plot(single.profiles)
    assert plot.caption.startswith("The line is a model, not a measurement: ")
    axes = drawn(plot).axes[0]
    assert axes.get_legend_handles_labels()[1][0] == "model, not measured"


def test_accelerators_are_drawn_beside_patches_of_their_size_alone() -> None:
    plot = workers.plot(one(patch=64).profiles)
    assert "Published accelerators are left out" in plot.caption
    assert not [t for t in drawn(plot).axes[0].texts if "H200" in t.get_text()]
    assert len(accelerators()) == len(ANCHORS) == 6
    assert [a.name for a in accelerators() if "?" in a.name] == ["B200* 43.2?"]


def test_points_lie_under_their_roof(swept: Gathered) -> None:
    axes = drawn(roofline.plot(swept.fastest)).axes[0]
    numbers = [text.get_text() for text in axes.texts if text.get_text().isdecimal()]
    assert sorted(map(int, numbers)) == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    roof = next(line for line in axes.lines if str(line.get_label()).startswith("roof"))
    x, y = np.asarray(roof.get_xdata()), np.asarray(roof.get_ydata())
    assert y[1] == x[1] == pytest.approx(76, rel=0.01)
    assert y[2] == y[1]


def test_starved_requests_are_marked(single: Gathered) -> None:
    axes = drawn(ready.plot(single.profiles)).axes[0]
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    starved = sum(int((phase.ready == 0).sum()) for phase in single.profiles[0].of("both"))
    assert 0 < starved == len(np.asarray(crosses.get_xdata()))


def test_a_timeline_puts_windows_end_to_end() -> None:
    def phase(ready: list[float]) -> Phase:
        empty = np.zeros(0)
        times = {"warmup": np.array([3.0]), "steps": np.array([1.0, 2.0]), "wait": empty, "stall": empty}
        return Phase(arm="both", process=0, round=0, ready=np.array(ready), **times)

    timeline = Timeline([phase([4, 0]), phase([1, 2, 3, 4])], warmup=True)
    assert list(timeline.edges) == [0, 6, 12]
    assert timeline.shaded == [(0, 3), (6, 9)]
    assert [list(times) for times, _ in timeline.steps()] == [[1.5, 3.5, 5], [7.5, 9.5, 11]]
    times, ready_ = timeline.requests()
    # Two requests in a step of the second window: half-way, there is nothing better to say.
    assert list(times) == [3, 4, 9, 9.5, 10, 11]
    assert list(ready_) == [4, 0, 1, 2, 3, 4]
    assert list(Timeline([phase([1, 1])], warmup=False).requests()[0]) == [0, 1]


def test_the_trace_has_a_panel_for_each_arm_or_each_point(single: Gathered, swept: Gathered) -> None:
    figure = drawn(trace.plot(single.profiles))
    assert len(figure.axes) == 5
    assert figure.axes[-1].get_xlabel() == "time, windows end to end (s)"
    assert len(drawn(trace.plot(swept.shown)).axes) == 4


def test_a_figure_without_data_says_so() -> None:
    results = nulled(profile_results(steps=30, rounds=1))
    results["phases"] = []
    for arm in ("loader", "both"):
        results["findings"]["rates"].pop(arm)
    profiles = gather([("a", record("profile", results))]).profiles
    for make in PLOTS:
        if make is not breakdown.plot:
            plot = make(profiles)
            text = figure(plot)
            assert plot.draw is None
            assert plot.title in text
            assert f'<p class="missing">{plot.missing[:20]}' in text
            assert "<svg" not in text
    assert breakdown.plot([]).draw is None


def test_a_figure_is_drawn_the_same_each_time(single: Gathered) -> None:
    plot = waits.plot(single.profiles)
    assert figure(plot) == figure(plot)
    assert figure(plot).count("<svg") == 2


def test_text_from_a_record_is_text_in_a_figure() -> None:
    results = profile_results(steps=30, rounds=1)
    evil = "$x_1$ & <b>bold</b> url(#1) #0a0b00"
    results |= {"description": evil, "loader": evil}
    plots = [make(gather([("a", record("profile", results))]).profiles) for make in PLOTS]
    text = "".join(map(figure, plots))
    assert "<b>" not in text
    assert "$x_1$ &amp; &lt;b&gt;bold&lt;/b&gt; url(#1) #0a0b00" in text


def test_long_names_are_cut_in_labels() -> None:
    assert shortened("a" * 50, 10) == "a" * 9 + "\u2026"
    assert shortened("a" * 10, 10) == "a" * 10


def test_thousands_of_steps_make_no_large_figure() -> None:
    results = profile_results(steps=30, rounds=1)
    for phase in results["phases"]:
        for key in ("step_us", "wait_us", "stall_us", "ready"):
            phase[key] = (phase[key] * 300)[:9000]
    profiles = gather([("a", record("profile", json.loads(json.dumps(results))))]).profiles
    assert sum(len(figure(make(profiles))) for make in PLOTS) < 500_000
