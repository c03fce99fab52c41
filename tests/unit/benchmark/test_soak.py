"""Growth is found in a series, and noise is not taken for it."""

import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.soak import text
from benchmark.soak.child import steps_in
from benchmark.soak.sampling import Sample, take
from benchmark.soak.training import Soak
from benchmark.soak.trend import LIMITS, theil_sen, trends

MB = 1_000_000


def series(count: int = 300, steps: int = 12_000) -> list[Sample]:
    """A run that fills its caches, then goes up and down by some megabytes with every checkpoint."""
    noise = np.random.default_rng(5)
    found = []
    for i in range(count):
        done = steps * i // count
        filling = 400 * (1 - math.exp(-40 * i / count))
        sawtooth = 6 * (i % 7)
        memory = int(MB * (300 + filling + sawtooth + noise.normal(0, 2)))
        found.append(Sample(2.0 * i, done, memory, 60 + (i % 11 == 0), 12 + 2 * (i % 5 == 0), 65536, 0))
    return found


def growing(name: str, per_1000_steps: float) -> list[Sample]:
    return [replace(s, **{name: int(getattr(s, name) + per_1000_steps * s.steps / 1000)}) for s in series()]


def test_theil_sen_is_the_slope_whatever_a_quarter_of_the_points_does() -> None:
    x = np.arange(100.0)
    y = 3 * x + 5
    y[::4] = 1e9
    assert theil_sen(list(x), list(y)) == pytest.approx(3, abs=0.2)
    with pytest.raises(ValueError, match="different x"):
        theil_sen([1.0, 1.0], [1.0, 2.0])


def test_a_steady_run_is_flat() -> None:
    found = trends(series())
    assert found.keys() == LIMITS.keys()
    assert all(trend.flat for trend in found.values()), found


@pytest.mark.parametrize(
    ("name", "per_1000_steps"),
    [
        ("memory_bytes", 2.5 * MB),
        ("descriptors", 0.4),
        ("threads", 0.4),
        ("shared_memory_bytes", 20_000.0),
        ("shared_memory_names", 0.4),
    ],
)
def test_a_leak_is_found_in_what_leaks_alone(name: str, per_1000_steps: float) -> None:
    found = trends(growing(name, per_1000_steps))
    assert [key for key, trend in found.items() if not trend.flat] == [name]
    assert found[name].per_1000_steps == pytest.approx(per_1000_steps, rel=0.5)
    assert found[name].last > found[name].first


def test_memory_may_grow_by_less_than_a_megabyte() -> None:
    assert trends(growing("memory_bytes", 0.3 * MB))["memory_bytes"].flat


def test_what_was_hardly_looked_at_passes_nothing() -> None:
    soak = Soak("dali", series()[:5], status=143)
    assert trends(soak.samples) == {}
    assert text.verdict(soak) == ["too few samples to say anything"]


def test_an_end_that_is_not_as_asked_is_no_pass() -> None:
    soak = Soak("dali", series(), status=143)
    assert text.verdict(soak) == []
    assert text.verdict(replace(soak, status=None)) == ["ended with None after SIGTERM, expected 143"]
    assert text.verdict(replace(soak, left=["worker"])) == ["left behind: worker"]
    leaking = replace(soak, samples=growing("descriptors", 0.4))
    (line,) = text.verdict(leaking)
    assert line.startswith("descriptors grows by 0.3")
    assert line in text.heading([soak, leaking])
    assert "GROWS" in [cell for row in text.table([leaking]) for cell in row]


def test_a_record_has_the_ends_of_a_series_and_no_more_points_than_said() -> None:
    samples = series(1201)
    values = text.values(Soak("pytorch", samples, status=143))
    assert {len(points) for points in values["series"].values()} == {text.MOST_POINTS}
    first, last = ({k: v[i] for k, v in values["series"].items()} for i in (0, -1))
    assert (first, last) == (asdict(samples[0]), asdict(samples[-1]))
    assert values["wrong"] == []


def test_a_line_of_bars_shows_what_rises() -> None:
    rising = [Sample(0, i, i * MB, 0, 0, 0, 0) for i in range(100)]
    bars = text.spark(rising)
    assert (bars[0], bars[59]) == ("▁", "█")
    assert bars.endswith("0.0 to 99.0 MB")


def test_this_process_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "name").touch()
    with (tmp_path / "steps").open("wb") as file:
        before = take([os.getpid()], tmp_path, 1.0, 3)
        held = [os.dup(file.fileno()) for _ in range(5)]
        after = take([os.getpid(), 2**22 + 1], tmp_path, 1.0, 3)
        for descriptor in held:
            os.close(descriptor)
    assert after.descriptors - before.descriptors == 5
    assert before.memory_bytes > 10 * MB
    assert before.threads >= 1
    assert before.shared_memory_names == 2


def test_steps_are_read_where_they_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "steps"
    assert steps_in(path) == 0
    path.write_bytes((123_456).to_bytes(8, "little"))
    assert steps_in(path) == 123_456
