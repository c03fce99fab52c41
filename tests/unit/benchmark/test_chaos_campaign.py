"""Which faults come when, what is left alive, what is filled, and what the table says."""

import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from benchmark.chaos import filler, table
from benchmark.chaos.deal import Plan, deal
from benchmark.chaos.faults import FAULTS
from benchmark.chaos.output import plain
from benchmark.chaos.processes import end_all, left_after, processes_of

NAMES = [fault().name for fault in FAULTS]


def drawn(plan: Plan) -> tuple[object, ...]:
    return plan.number, plan.fault.name, plan.configuration, plan.moment, plan.random.random()


class TestDeal:
    def test_it_is_a_function_of_the_seed(self) -> None:
        assert [drawn(p) for p in islice(deal(3), 40)] == [drawn(p) for p in islice(deal(3), 40)]
        assert [drawn(p) for p in islice(deal(3), 40)] != [drawn(p) for p in islice(deal(4), 40)]

    def test_every_round_has_every_kind_once(self) -> None:
        plans = list(islice(deal(1), 5 * len(FAULTS)))
        for start in range(0, len(plans), len(FAULTS)):
            assert sorted(p.fault.name for p in plans[start : start + len(FAULTS)]) == sorted(NAMES)
        assert len({plan.fault.name for plan in plans[:10]}) == 10

    def test_every_kind_meets_all_that_it_is_for(self) -> None:
        met: dict[str, set[tuple[str, int, str]]] = {name: set() for name in NAMES}
        for plan in islice(deal(1), 8 * len(FAULTS)):
            made = plan.configuration
            met[plan.fault.name].add((made.loader, made.ranks, made.variant))
        for fault in (make() for make in FAULTS):
            assert len(met[fault.name]) == len(fault.loaders) * len(fault.ranks) * 2

    def test_moments_are_where_the_fault_may_come(self) -> None:
        plans = list(islice(deal(1), 40 * len(FAULTS)))
        assert all(-1 <= plan.moment < plan.fault.latest for plan in plans)
        assert {plan.fault.while_starting for plan in plans if plan.moment < 0} == {True}


def test_an_orphan_is_found_named_and_ended(tmp_path: Path) -> None:
    script = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])"
    subprocess.run([sys.executable, "-c", script], env={"TMPDIR": f"{tmp_path}/tmp"}, check=True)
    assert len(processes_of(tmp_path)) == 1
    ((*_, line),) = left_after(tmp_path, 0.2)
    assert line == "import time; time.sleep(99)"
    assert processes_of(tmp_path) == []
    assert left_after(tmp_path, 0.2) == []


def test_a_process_of_another_cycle_is_none_of_ours(tmp_path: Path) -> None:
    other = tmp_path / "cycle-010"
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], env={"TMPDIR": f"{other}/tmp"}, stdin=subprocess.PIPE
    ):
        assert processes_of(tmp_path / "cycle-01") == []
        assert len(processes_of(other)) == 1
        end_all(other)


def test_a_filler_leaves_no_room_and_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([3, 2, 0])

    class Room:
        f_frsize = 4096

        @property
        def f_bavail(self) -> int:
            return next(free, 0)

    monkeypatch.setattr(filler.os, "statvfs", lambda path: Room())
    full = filler.Filler(tmp_path)
    while (tmp_path / filler.NAME).stat().st_size < 5 * 4096:
        time.sleep(0.001)
    full.remove()
    full.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_table_counts_each_kind_and_all() -> None:
    def cycle(fault: str, outcome: str, lost: int) -> dict[str, object]:
        return {"fault": fault, "outcome": outcome, "lost_steps": lost}

    cycles = [cycle("a", "survived", 2), cycle("a", "wrong result", 4), cycle("b", "hang", 1)]
    rows = table.rows(cycles, ["a", "b", "c"])
    assert rows[1:] == [
        ["a", "2", "1", "3, 4", "0", "1", "0", "0"],
        ["b", "1", "0", "1, 1", "1", "0", "0", "0"],
        ["c", "0", "0", "-", "0", "0", "0", "0"],
        ["all", "3", "1", "2, 4", "1", "1", "0", "0"],
    ]
    assert len({line.index("wrong") for line in plain(rows) if "wrong" in line}) == 1
    assert "3 faults" in table.heading(cycles)
    assert "1 survived, 1 wrong results, 1 hangs, 0 lost checkpoints" in table.heading(cycles)
