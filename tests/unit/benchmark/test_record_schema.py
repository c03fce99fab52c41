"""``record_schema.json``: it takes the records that there are, and what is damaged it refuses."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchmark import record as record_module
from benchmark.environment import ROOT
from benchmark.record import SCHEMA_VERSION, Record, to_json

SCHEMA = json.loads(Path(record_module.__file__).with_name("record_schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
KEPT = sorted((ROOT / "results").glob("*/record.json"))


def interval(value: float, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def rate(images_per_s: float) -> dict[str, Any]:
    return {
        "images_per_s": images_per_s, "low": images_per_s - 1, "high": images_per_s + 1, "steps": 3,
        "window_s": 10.0, "windows": 1, "p50_ms": 9.0, "p90_ms": 11.0, "p99_ms": 12.0,
        "iqr_over_median": 0.1, "mild_outliers": 1, "far_outliers": 0, "steady": True, "unsteady_because": "",
    }  # fmt: skip


def phase(arm: str, **times: list[int]) -> dict[str, Any]:
    names = ("warmup_us", "step_us", "wait_us", "stall_us", "fetch_us", "prep_us", "transfer_us", "ready")
    return {
        "arm": arm, "process": 0, "round": 0, "cache": "warm", "window_s": 10.2, "warmup_s": 1.1,
        "bytes_read": 123, "resident_before": None, "resident_after": 5, "energy_j": None,
    } | {name: times.get(name, []) for name in names}  # fmt: skip


def profile_results() -> dict[str, Any]:
    findings = {
        "rates": {"loader": rate(50), "step": rate(20), "both": rate(18)},
        "data_stall": interval(0.1, 0.05, 0.15), "prep_stall": interval(0.0), "fetch_stall": None,
        "breakdown_ms": {"compute": 90.0, "contention": 2.0, "fetch": 3.0, "prep": 4.0, "transfer": 1.0},
        "service_ms": {"fetch": 1.0, "prep": 2.0, "transfer": 0.1},
        "wait": {"p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0, "over_50us": 0.5, "share": 0.1},
        "queue": {"mean": 2.5, "starved": 1, "requests": 3, "capacity": 4},
        "overlap_efficiency": 0.9, "headroom": interval(2.5, 2.0, 3.0), "contention_tax": interval(-0.01),
        "read": {"bytes_per_image": 29e6, "patch_bytes": 10e6, "amplification": 2.9},
        "residency": {"data_bytes": 9, "before": 3, "after": None, "cold_claim": ""},
        "au_mlperf_storage": 0.9, "reference_mean_of_rates": 19.0, "energy_j_per_image": None,
        "noise": {"grade": "quiet", "iqr_over_median": 0.05},
        "ranks": [{"rank": 0, "step_ms": 9.0, "stall_ms": 1.0, "compute_ms": 8.0, "straggler": False}],
        "allreduce_share": interval(0.02),
        "what_if": {"basis": "model", "statement": "2 workers would do", "workers": [1, 2],
                    "images_per_s": [9.0, 18.0], "needed_images_per_s": 20.0},
        "verdict": {"name": "prep-bound", "sentence": "It waits.", "advice": "More workers."},
    }  # fmt: skip
    return {
        "description": "pytorch, 2 worker processes", "loader": "pytorch", "step": "emulated",
        "emulated": {"name": "nvidia-h200", "seconds_per_step": 0.0263, "accelerators": 1, "source": "a log",
                     "date": "2024-04-24", "assumed": False},
        "batch_size": 2, "ga_steps": 1, "world_size": 1, "images_per_step": 2, "patch": [128, 128, 128],
        "device": "cpu", "workers": 2, "usable_cpus": 2, "queue_batches": 4, "rounds": 3,
        "phases": [phase("both", warmup_us=[9], step_us=[1, 2, 3], wait_us=[1, 1, 1], ready=[0, 1, 2])],
        "findings": findings, "dataset": {"sha256": "0"}, "pipeline": {"patches": "0", "seed": 0},
    }  # fmt: skip


def sweep_results() -> dict[str, Any]:
    return {
        "axes": {"num_workers": ["1", "2"]}, "repetitions": 2, "complete": False,
        "points": [
            {"flags": {"num_workers": "1"}, "status": "ok", "reason": "", "record": "point-001.json",
             "results": profile_results() | {"phases": []}},
            {"flags": {"num_workers": "2"}, "status": "failed", "reason": "no memory", "record": None,
             "results": None},
        ],
    }  # fmt: skip


def content(suite: str, results: dict[str, Any]) -> dict[str, Any]:
    """As a file has it."""
    parsed: dict[str, Any] = json.loads(to_json(Record(suite=suite, command=["python"], results=results)))
    return parsed


def test_the_schema_is_one_and_of_this_version() -> None:
    VALIDATOR.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_kept_records(path: Path) -> None:
    VALIDATOR.validate(json.loads(path.read_text(encoding="utf-8")))


def test_records_are_kept() -> None:
    assert len(KEPT) >= 3


def test_profiles_sweeps_and_others() -> None:
    interrupted = profile_results() | {"findings": None, "phases": []}
    for suite, results in (
        ("profile", profile_results()), ("profile", interrupted), ("sweep", sweep_results()),
        ("another", {"anything": 1}),
    ):  # fmt: skip
        VALIDATOR.validate(content(suite, results))


def at(*path: str | int, value: Any = None, drop: bool = False) -> Callable[[dict[str, Any]], None]:
    """A damage: the value at ``path`` replaced or dropped."""

    def damage(found: dict[str, Any]) -> None:
        place: Any = found
        for key in path[:-1]:
            place = place[key]
        if drop:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return damage


ENVELOPE = [
    at("suite", drop=True),
    at("suite", value=""),
    at("command", value="python"),
    at("results", value=[]),
    at("config", drop=True),
    at("environment", "cpu", drop=True),
    at("environment", "usable_cpus", value="2"),
    at("environment", "gpus", value=[{}]),
    at("environment", "commit", value="main"),
    at("date", value="yesterday"),
    at("schema_version", value=2),
    at("note", value="x"),
]
FINDINGS = ("results", "findings")
PROFILE = [
    at("results", "phases", drop=True),
    at("results", "patch", value=[128, 128]),
    at("results", "batch_size", value=0),
    at("results", "emulated", "assumed", drop=True),
    at("results", "phases", 0, "arm", value="neither"),
    at("results", "phases", 0, "cache", value="lukewarm"),
    at("results", "phases", 0, "step_us", value=[1.5]),
    at("results", "phases", 0, "step_us", value=[-1]),
    at("results", "phases", 0, "stall_us", drop=True),
    at("results", "phases", 0, "window_s", value=0),
    at("results", "phases", 0, "wiat_us", value=[]),
    at(*FINDINGS, drop=True),
    at(*FINDINGS, "rates", "both", drop=True),
    at(*FINDINGS, "rates", "third", value=rate(1)),
    at(*FINDINGS, "rates", "both", "low", value=-1),
    at(*FINDINGS, "rates", "both", "steady", value="yes"),
    at(*FINDINGS, "data_stall", value=0.1),
    at(*FINDINGS, "data_stall", "low", drop=True),
    at(*FINDINGS, "breakdown_ms", "prep", value=-1),
    at(*FINDINGS, "wait", "over_50us", value=1.5),
    at(*FINDINGS, "noise", "grade", value="loud"),
    at(*FINDINGS, "verdict", "name", value="gpu-bound"),
    at(*FINDINGS, "verdict", value=None),
]
SWEEP = [
    at("results", "points", drop=True),
    at("results", "axes", "num_workers", value=[1, 2]),
    at("results", "complete", value="no"),
    at("results", "points", 0, "status", value="fine"),
    at("results", "points", 0, "status", value="failed"),
    at("results", "points", 0, "results", value=None),
    at("results", "points", 1, "status", value="ok"),
    at("results", "points", 0, "results", "findings", "verdict", drop=True),
]


@pytest.mark.parametrize(
    ("suite", "damage"),
    [
        *(("profile", damage) for damage in ENVELOPE + PROFILE),
        *(("sweep", damage) for damage in SWEEP),
        *(("another", damage) for damage in ENVELOPE),
    ],
)
def test_damaged_records_are_refused(suite: str, damage: Callable[[dict[str, Any]], None]) -> None:
    results = {"profile": profile_results, "sweep": sweep_results, "another": dict}[suite]()
    whole = content(suite, results)
    VALIDATOR.validate(whole)
    damaged = copy.deepcopy(whole)
    damage(damaged)
    assert not VALIDATOR.is_valid(damaged)
