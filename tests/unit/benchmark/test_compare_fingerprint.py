"""``python -m benchmark compare``: what is compared with what."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_records import Compare, benchmark, profile, results, sweep

from benchmark.fingerprint import KEYS, differences, fingerprint
from benchmark.record import Record


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    return Compare(tmp_path, capsys)


def changed(record: Record, path: str, value: Any) -> Record:
    content = json.loads(
        json.dumps({"config": record.config, "environment": record.environment, "results": record.results})
    )
    *folders, name = path.split("/")
    place = content
    for folder in folders:
        place = place[folder]
    place[name] = value
    return replace(record, **content)


@pytest.mark.parametrize(
    ("path", "value", "key", "found"),
    [
        ("results/batch_size", 4, "batch_size", "2 in A, 4 in B"),
        ("results/patch", [64, 64, 32], "patch", "64x64x64 in A, 64x64x32 in B"),
        ("results/loader", "dali", "loader", "pytorch in A, dali in B"),
        ("results/step", "mine:step", "step", "voxelrate in A, mine:step in B"),
        ("results/emulated", {"name": "h", "seconds_per_step": 0.1, "accelerators": 2}, "emulated",
         "absent in A, 2 h 0.1 in B"),
        ("results/workers", 1, "num_workers", "2 in A, 1 in B"),
        ("results/dataset/sha256", "f" * 64, "dataset", "in A, ffffffffffffffff in B"),
        ("results/pipeline/patches", "f" * 64, "pipeline", "in A, ffffffffffffffff of seed 0 in B"),
        ("results/pipeline", None, "pipeline", "of seed 0 in A, absent in B"),
        ("results/phases", [{"cache": "cold"}], "cache", "warm in A, cold in B"),
        ("results/device", "cuda:0", "device", "cpu in A, cuda in B"),
        ("config/filters", [32], "filters", "[32, 64] in A, [32] in B"),
        ("config/amp", True, "amp", "false in A, float16 in B"),
        ("config/optimizer/name", "adam", "optimizer", "sgd auto in A, adam auto in B"),
        ("config/loader/layout", "NDHWC", "layout", "NCDHW in A, NDHWC in B"),
        ("environment/cpu", "another", "cpu", "a CPU in A, another in B"),
        ("environment/usable_cpus", 4, "usable_cpus", "2 in A, 4 in B"),
        ("environment/gpus", [{"name": "H200"}], "gpus", "absent in A, H200 in B"),
        ("environment/packages/torch", "2.14.0", "torch", "2.13.0 in A, 2.14.0 in B"),
        ("environment/python", "3.12.1", "python", "3.11 in A, 3.12 in B"),
    ],
)  # fmt: skip
def test_what_differs_is_named_and_can_be_ignored(
    compare: Compare, path: str, value: Any, key: str, found: str
) -> None:
    records = profile(), changed(profile(), path, value)
    status, text = compare(*records)
    assert status == 5
    assert f"INCOMPARABLE: {key} (" in text
    assert found in text
    assert text.splitlines()[-1] == "both: INCOMPARABLE"
    assert compare(*records, "--ignore", key)[0] == 0
    assert key in KEYS


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("environment/commit", "f" * 40),
        ("environment/kernel", "7.0"),
        ("environment/python", "3.11.9"),
        ("environment/memory_bytes", (16 << 30) - 5_000_000),
        ("config/seed", 5),
        ("config/log_dir", "b"),
        ("config/loader/data_dir", "elsewhere"),
        ("config/amp_dtype", "bfloat16"),
        ("results/rounds", 7),
    ],
)
def test_what_decides_no_rate_does_not_count(compare: Compare, path: str, value: Any) -> None:
    assert compare(profile(), changed(profile(), path, value))[0] == 0


def test_several_differences_are_all_named() -> None:
    a = fingerprint(profile())
    found = differences(a, a | {"torch": "3", "cpu": "x", "reader": "file"}, ["torch"])
    assert [phrase.split()[0] for phrase in found] == ["cpu", "reader"]
    assert not differences(a, a)


def test_every_key_of_a_fingerprint_can_be_ignored() -> None:
    assert fingerprint(profile()).keys() | fingerprint(sweep({"1": results()})).keys() <= {*KEYS, "suite"}


def test_different_suites_are_incomparable(compare: Compare) -> None:
    status, text = compare(profile(), benchmark(20))
    assert status == 5
    assert "suite (profile in A, benchmark-train in B)" in text


def test_flags_of_sweeps_count_but_for_paths_and_lengths(compare: Compare) -> None:
    a, b = sweep({"1": results()}), sweep({"1": results()})
    words = ["--seconds=9", "--batch_size", "2", "--data_dir", "y", "--amp"]
    assert compare(a, replace(b, config={"base": words}))[0] == 0
    status, text = compare(a, replace(b, config={"base": [*words, "--filters", "8", "16"]}))
    assert status == 5
    assert "flags (amp= batch_size=2 in A, amp= batch_size=2 filters=8,16 in B)" in text
