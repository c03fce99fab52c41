import argparse

import pytest

from benchmark.sweep.grid import Axis, arguments, axis, duration, interleaved, points, without


def test_every_combination_is_a_point() -> None:
    found = points([Axis("loader", ("pytorch", "dali")), Axis("num_workers", ("1", "2", "4"))])
    assert len(found) == 6
    assert found[0] == {"loader": "pytorch", "num_workers": "1"}
    assert found[-1] == {"loader": "dali", "num_workers": "4"}


def test_points_become_flags() -> None:
    flags = {"input_shape": "64 64 64", "amp": "on", "verbose": "off", "batch_size": "2"}
    assert arguments(flags, frozenset({"amp", "verbose"})) == [
        "--input_shape", "64", "64", "64", "--amp", "--batch_size", "2",
    ]  # fmt: skip


def test_repetitions_go_forwards_and_backwards() -> None:
    assert interleaved(3, 3) == [
        (0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1), (0, 2), (1, 2), (2, 2),
    ]  # fmt: skip


def test_a_sweeps_own_flags_are_not_handed_on() -> None:
    command = [
        "--axis",
        "a=1,2",
        "--data_dir",
        "D",
        "--axis=b=3",
        "--out",
        "O",
        "--input_shape",
        "1",
        "2",
        "3",
    ]
    assert without(command, frozenset({"axis", "out"})) == ["--data_dir", "D", "--input_shape", "1", "2", "3"]


@pytest.mark.parametrize("text", ["loader", "=1", "loader=", "loader=a,,b", "loader=a,a"])
def test_axes_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        axis(text)


def test_an_axis_may_be_written_as_a_flag() -> None:
    assert axis("--num_workers=1, 2") == Axis("num_workers", ("1", "2"))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["20", "m", "-1m", "0s", "1d"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)
