import math
from dataclasses import replace
from typing import Any

import pytest

from benchmark.profile.findings import at_most_one
from benchmark.profile.summary import find, longest, of_rank, results
from benchmark.profile.text import lines
from tests.unit.benchmark.profiles import context, phase, profile


def found(*arguments: Any, change: dict[str, Any] | None = None, **services: Any) -> dict[str, Any]:
    return find(context(**(change or {})), profile(*arguments, **services), [])


def test_the_published_formulas() -> None:
    told = found(50.0, 40.0, 55.0, 14.0, fetch_us=30, prep_us=20, transfer_us=0)
    assert told["rates"]["loader"]["images_per_s"] == pytest.approx(40)
    assert told["rates"]["step"]["images_per_s"] == pytest.approx(50)
    assert told["data_stall"]["value"] == pytest.approx(1 - 40 / 55)
    assert told["prep_stall"]["value"] == pytest.approx(1 - 40 / 50)
    assert told["headroom"]["value"] == pytest.approx(40 / 50)
    assert told["overlap_efficiency"] == pytest.approx(50 / 55)
    assert told["contention_tax"]["value"] == pytest.approx(41 / 40 - 1)
    assert told["au_mlperf_storage"] == pytest.approx(41 / 55, rel=0.001)
    assert told["reference_mean_of_rates"] > told["rates"]["both"]["images_per_s"]
    assert told["stall_share"]["value"] == pytest.approx(14 / 55)
    for name in ("data_stall", "headroom", "contention_tax"):
        assert told[name]["low"] < told[name]["value"] < told[name]["high"]


def test_the_parts_of_a_step_make_up_the_step() -> None:
    parts = found(50.0, 40.0, 55.0, 14.0, fetch_us=30, prep_us=20, transfer_us=4)["breakdown_ms"]
    assert sum(parts.values()) == pytest.approx(55)
    assert parts["compute"] == pytest.approx(40)
    assert parts["contention"] == pytest.approx(1)
    assert parts["transfer"] == pytest.approx(4)
    assert parts["fetch"] == pytest.approx(6)
    assert parts["prep"] == pytest.approx(4)


def test_a_loader_that_tells_nothing_prepares() -> None:
    told = found(50.0, 40.0, 55.0, 14.0)
    assert told["breakdown_ms"]["prep"] == pytest.approx(14)
    assert told["service_ms"] is None
    assert told["what_if"] is None
    assert told["queue"] is None


def test_behind_a_graph_only_what_it_waits_for_is_the_hosts() -> None:
    graph = found(50.0, 40.0, 55.0, 14.0, fetch_us=30, prep_us=0, transfer_us=0, host_wait_us=5)
    assert graph["breakdown_ms"]["fetch"] == pytest.approx(14 * 5 / 50)
    assert graph["breakdown_ms"]["prep"] == pytest.approx(14 * 45 / 50)


@pytest.mark.parametrize(
    ("arguments", "services", "verdict"),
    [
        ((5.0, 40.0, 40.5, 0.2), {"fetch_us": 2, "prep_us": 3}, "compute-bound"),
        ((50.0, 40.0, 50.0, 10.0), {"fetch_us": 40, "prep_us": 10}, "fetch-bound"),
        ((50.0, 40.0, 50.0, 10.0), {"fetch_us": 10, "prep_us": 40}, "prep-bound"),
        ((50.0, 40.0, 50.0, 10.0), {"fetch_us": 1, "prep_us": 1, "transfer_us": 8}, "transfer-bound"),
        ((5.0, 40.0, 50.0, 0.2), {"fetch_us": 2, "prep_us": 3}, "contention-bound"),
        ((50.0, 40.0, 50.0, 6.0), {"fetch_us": 5, "prep_us": 1}, "fetch-bound"),
    ],
)
def test_verdicts(arguments: tuple[float, ...], services: dict[str, float], verdict: str) -> None:
    told = found(*arguments, **({"transfer_us": 0} | services))["verdict"]
    assert told["name"] == verdict
    assert told["sentence"].startswith(verdict)
    assert told["advice"]


def test_a_stall_that_comes_and_goes_decides_nothing() -> None:
    phases = []
    for number, stall in enumerate([0.2, 2.0, 5.0]):
        phases += [phase("loader", 38.0, number), phase("step", 40.0, number)]
        phases.append(phase("both", 40.2 + stall, number, stall_us=stall))
    told = find(context(), phases, [])["verdict"]
    assert told["name"] == "inconclusive"
    assert "waits for data take" in told["sentence"]


def test_an_interval_that_is_not_known_decides_nothing() -> None:
    phases = [phase("loader", 50), phase("step", 40), phase("both", 50, stall_us=10)]
    few = [type(p)(**(vars(p) | {"step_us": p.step_us[:4], "stall_us": p.stall_us[:4]})) for p in phases]
    told = find(context(), few, [])
    assert told["data_stall"]["low"] is None
    assert told["verdict"]["name"] == "inconclusive"
    assert "too few steps" in told["verdict"]["sentence"]


def test_cold_rounds_give_the_fetch_stall_and_a_verdict_of_their_own() -> None:
    phases = profile(5.0, 40.0, 40.5, 0.2)
    for number in range(3):
        phases += [
            phase("loader-cold", 80.0, number, cache="cold", resident_before=0, resident_after=5),
            phase("both-cold", 82.0, number, cache="cold", stall_us=41.8, wait_us=41.8),
        ]
    told = find(context(), phases, [])
    assert told["fetch_stall"]["value"] == pytest.approx(1 - 40 / 80)
    assert told["verdict"]["name"] == "compute-bound"
    assert told["cold"]["verdict"]["name"] == "fetch-bound"
    assert told["cold"]["breakdown_ms"]["fetch"] == pytest.approx(41.6)
    assert "smaller than 5 x" in told["residency"]["cold_claim"]


def test_short_passes_from_a_cold_cache_are_judged_by_their_scatter() -> None:
    phases = profile(5.0, 40.0, 40.5, 0.2)
    for number, slower in enumerate((0.97, 1.0, 1.03)):
        for arm, step in (("loader-cold", 80.0), ("both-cold", 82.0)):
            one = phase(arm, step * slower, number, cache="cold", stall_us=step * slower - 40)
            phases.append(replace(one, step_us=one.step_us[:5], stall_us=one.stall_us[:5]))
    told = find(context(), phases, [])
    cold = told["rates"]["both-cold"]
    assert cold["low"] < cold["images_per_s"] < cold["high"]
    assert cold["unsteady_because"] == ""
    assert told["cold"]["verdict"]["name"] == "fetch-bound"
    assert told["fetch_stall"]["low"] < told["fetch_stall"]["value"] < told["fetch_stall"]["high"]


def test_ranks_that_hold_up_the_others_are_named() -> None:
    ranks = [
        {"rank": rank, "step_ms": 50.0, "stall_ms": stall, "compute_ms": 40.0, "local_ms": 38.0}
        for rank, stall in enumerate([1.0, 9.0, 1.0])
    ]
    phases = profile(5.0, 40.0, 50.0, 1.0) + [phase("step-local", 38.0, number) for number in range(3)]
    told = find(context(world_size=3), phases, ranks)
    assert [rank["straggler"] for rank in told["ranks"]] == [False, True, False]
    assert told["allreduce_share"]["value"] == pytest.approx(1 - 38 / 40)
    assert of_rank(phases, 1)["local_ms"] == pytest.approx(38)


def test_all_ranks_wait_for_the_last() -> None:
    assert longest([[1, 5, 0], [3, 2, 0]]) == [3, 5, 0]


def test_a_bound_that_is_not_known_stays_unknown() -> None:
    assert math.isnan(at_most_one(math.nan))
    assert (at_most_one(0.5), at_most_one(2.0)) == (0.5, 1.0)


def test_a_machine_that_is_too_noisy_gets_no_verdict() -> None:
    phases = profile(50.0, 40.0, 55.0, 14.0, fetch_us=30, prep_us=20)
    wild = [20_000, 60_000] * 25
    phases = [replace(p, step_us=wild) if p.arm == "step" else p for p in phases]
    told = find(context(), phases, [])
    assert told["noise"]["grade"] == "too noisy"
    assert told["verdict"]["sentence"].startswith("inconclusive: the middle half of the steps alone")


def test_an_empty_queue_is_a_starved_request() -> None:
    phases = profile(50.0, 40.0, 55.0, 14.0, fetch_us=30, prep_us=20)
    ready = [0, 1, 2, 0] * 12 + [1, 1]
    phases = [type(p)(**(vars(p) | {"ready": ready if p.arm == "both" else []})) for p in phases]
    assert find(context(), phases, [])["queue"] == {
        "mean": pytest.approx(sum(ready) / 50),
        "starved": 72,
        "requests": 150,
        "capacity": 2,
    }


def test_what_more_workers_would_do() -> None:
    told = found(50.0, 20.0, 55.0, 34.0, fetch_us=30, prep_us=20, transfer_us=0)["what_if"]
    assert told["enough"] == 3, "one worker makes a batch in 50 ms, and 20 ms are wanted"
    assert told["images_per_s"][:3] == pytest.approx([40, 80, 120])
    assert "3 workers remove the stall" in told["statement"]
    # Two CPUs make a batch of 20 ms in 10; what is wanted takes 4.
    none = found(50.0, 4.0, 55.0, 34.0, change={"usable_cpus": 2}, fetch_us=30, prep_us=20)["what_if"]
    assert none["enough"] is None
    assert "it would take about 5 such CPUs" in none["statement"]


def test_an_interrupted_profile_keeps_its_phases_without_findings() -> None:
    told = results(context(), [phase("loader", 50.0)], [])
    assert told["findings"] is None
    assert len(told["phases"]) == 1


def test_all_that_is_found_can_be_read() -> None:
    phases = profile(50.0, 40.0, 55.0, 14.0, fetch_us=30, prep_us=20, transfer_us=0)
    text = "\n".join(lines(results(context(), phases, [])))
    for part in ("loader alone", "data stall 27.", "MLPerf Storage", "mean of rates", "verdict: fetch-bound"):
        assert part in text
