import re

import numpy as np
import pytest

from runtime.headline import Headline


def headline(
    steps: int = 200, mean_s: float = 0.1, ceiling_s: float | None = 0.08, drift: float = 0.0
) -> Headline:
    rng = np.random.default_rng(0)
    times = mean_s * (1 + drift * np.linspace(0, 1, steps)) * rng.normal(1, 0.02, steps)
    ceiling = [ceiling_s] * 20 if ceiling_s else []
    return Headline.of(times.tolist(), ceiling, images_per_step=2, window_s=float(times.sum()), block=8)


def test_the_line_says_how_sure_the_rate_is_and_what_it_is_held_against() -> None:
    found = headline()
    match = re.fullmatch(
        r"([\d.]+) img/s \[([\d.]+), ([\d.]+)\] \(n=200, window [\d.]+ s\), 80 % of compute ceiling, "
        r"data stall 20 %",
        found.line,
    )
    assert match, found.line
    value, low, high = map(float, match.groups())
    assert low < value < high
    assert value == pytest.approx(20, rel=0.01)
    assert found.values["images_per_second_low"] < 20.1 < found.values["images_per_second_high"] + 0.3
    assert found.values["data_stall"] == pytest.approx(0.2, abs=0.01)
    assert found.values["steady"]
    assert found.remarks == ()


def test_what_was_not_measured_is_not_said() -> None:
    found = headline(ceiling_s=None)
    assert found.line.endswith(" s)")
    assert "data_stall" not in found.values


def test_too_few_steps_have_no_interval() -> None:
    found = headline(steps=6)
    assert re.match(r"[\d.]+ img/s \(n=6, ", found.line)
    assert found.values["images_per_second_low"] is None
    assert found.remarks[0].startswith("no interval: ")


def test_a_drift_is_unsteady() -> None:
    found = headline(drift=0.3)
    assert found.remarks[0].startswith("UNSTEADY: ")
    assert found.values["steady"] is False


def test_faster_than_the_ceiling_is_no_stall() -> None:
    assert headline(ceiling_s=0.12).line.endswith("data stall 0 %")
