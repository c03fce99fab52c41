"""Published step times, and what --emulate makes of them."""

import argparse
from datetime import date

import pytest

from benchmark.anchors import ANCHORS, check_patch, parse_emulated, seconds_per_step
from pipelines.errors import DataError

STORAGE = {"mlperf-storage-a100": 0.636, "mlperf-storage-h100": 0.323, "mlperf-storage-b200": 0.162}
NVIDIA = {"nvidia-a100": 36.5, "nvidia-h100": 72.2, "nvidia-h200": 76.0}


def test_the_published_numbers() -> None:
    assert {name: ANCHORS[name].images_per_second for name in NVIDIA} == NVIDIA
    assert {name: seconds_per_step(ANCHORS[name], 7) for name in STORAGE} == STORAGE
    assert ANCHORS.keys() == NVIDIA.keys() | STORAGE.keys()


def test_every_anchor_says_where_it_is_from() -> None:
    for name, anchor in ANCHORS.items():
        assert anchor.name == name
        assert date.fromisoformat(anchor.date) >= date(2022, 1, 1)
        assert "mlcommons/" in anchor.source
        assert anchor.measured == ("assumed by its authors" not in anchor.source)
    assert [name for name, anchor in ANCHORS.items() if not anchor.measured] == ["mlperf-storage-b200"]


def test_steps_scale_with_the_batch() -> None:
    assert seconds_per_step(ANCHORS["nvidia-h200"], 2) == pytest.approx(2 / 76)
    assert seconds_per_step(ANCHORS["mlperf-storage-h100"], 14) == pytest.approx(0.646)
    assert parse_emulated("nvidia-h200").for_batch(2).seconds_per_step == pytest.approx(0.0263, abs=5e-5)
    assert parse_emulated("mlperf-storage-b200").for_batch(7).seconds_per_step == 0.162


def test_an_anchor_needs_its_batch_first() -> None:
    with pytest.raises(ValueError, match="for_batch"):
        _ = parse_emulated("nvidia-h100").seconds_per_step


def test_anchors_keep_their_provenance() -> None:
    for name, anchor in ANCHORS.items():
        emulated = parse_emulated(name).for_batch(3)
        assert (emulated.name, emulated.source, emulated.date) == (name, anchor.source, anchor.date)
        assert emulated.assumed is not anchor.measured


def test_seconds_are_those_of_a_step_whatever_its_batch() -> None:
    emulated = parse_emulated("0.25")
    assert emulated.seconds_per_step == emulated.for_batch(9).seconds_per_step == 0.25
    assert (emulated.name, emulated.date, emulated.assumed) == ("0.25 s", None, False)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "nvidia-b200", "", "1 s"])
def test_anything_else_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        parse_emulated(text)
    assert all(name in str(raised.value) for name in ANCHORS)


def test_a_published_time_is_of_the_published_patch() -> None:
    check_patch((128, 128, 128), parse_emulated("nvidia-a100").for_batch(2))
    check_patch((64, 64, 64), parse_emulated("0.1"))
    with pytest.raises(DataError, match="--emulate nvidia-a100 .* 128x128x128 patches, not of 64x128x128"):
        check_patch((64, 128, 128), parse_emulated("nvidia-a100").for_batch(2))
