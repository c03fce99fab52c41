"""How a GPU check goes on, whatever an item does."""

from pathlib import Path
from typing import Any

import pytest

from benchmark.fresh_process import ProcessError
from benchmark.gpu_check.course import Course
from benchmark.gpu_check.journal import Journal
from benchmark.gpu_check.plan import Item, Items, Plan
from benchmark.gpu_check.scale import DRY
from benchmark.gpu_check.sections import SECTIONS, Section
from benchmark.record import read_record
from tests.unit.benchmark.gpu_checks import journal


class FakeWorker:
    """Takes as long as it is told, and fails where it is told."""

    made: list["FakeWorker"]

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.log = clock, []  # type: ignore[var-annotated]

    def ask(self, section: str, arguments: dict[str, Any], limit_s: float) -> dict[str, Any]:
        self.log.append((section, arguments.get("n"), limit_s))
        self.clock[0] += arguments.get("takes", 1.0)
        if "dies" in arguments:
            raise ProcessError("killed by SIGSEGV")
        if "breaks" in arguments:
            raise KeyError("values")
        if "interrupted" in arguments:
            raise KeyboardInterrupt
        return {"n": arguments.get("n")}

    def end(self) -> None:
        self.log.append("end")

    def stop(self) -> None:
        self.log.append("stop")


def section(name: str, *items: Item, share: float = 1.0, **more: Any) -> Section:
    def found(plan: Plan, journal: Journal) -> Items:
        return items

    return Section(name=name, title=name, share=share, items=found, line=str, **more)


def run(folder: Path, *sections: Section, budget_s: float = 100.0) -> tuple[Journal, list[FakeWorker]]:
    clock, workers = [0.0], []
    found = journal(folder)

    def worker(log: Path) -> Any:
        workers.append(FakeWorker(clock))
        return workers[-1]

    course = Course(Plan(DRY, None), found, folder, budget_s, worker, lambda: clock[0])
    course.run(sections)
    return found, workers


def statuses(found: Journal, name: str) -> list[tuple[str, str]]:
    return [(outcome.status, outcome.reason) for outcome in found.of(name)]


def test_one_that_fails_costs_no_other(tmp_path: Path) -> None:
    items = [Item("a", {"n": 1}), Item("b", {"dies": 1}), Item("c", {"breaks": 1}), Item("d", {"n": 4})]
    found, (worker,) = run(tmp_path, section("ladder", *items), section("curves", Item("e", {"n": 5})))
    assert statuses(found, "ladder") == [
        ("ok", ""), ("failed", "killed by SIGSEGV"), ("failed", "KeyError: 'values'"), ("ok", ""),
    ]  # fmt: skip
    assert statuses(found, "curves") == [("ok", "")]
    assert worker.log[-1] == "stop"
    written = read_record(tmp_path).results["sections"]
    assert [item["status"] for item in written["ladder"]["items"]] == ["ok", "failed", "failed", "ok"]
    assert written["ladder"]["seconds"] == 4.0


def test_values_that_are_wrong_are_said_to_be(tmp_path: Path) -> None:
    found, _ = run(
        tmp_path, section("ladder", Item("a", {"n": 1}), wrong=lambda values: f"n is {values['n']}")
    )
    assert statuses(found, "ladder") == [("wrong", "n is 1")]
    assert found.values("ladder") == [{"n": 1}]


def test_nothing_begins_when_its_time_is_up_and_what_is_left_goes_on_to_others(tmp_path: Path) -> None:
    slow = [Item(name, {"takes": 30.0}) for name in "abc"]
    found, (worker,) = run(
        tmp_path,
        section("ladder", *slow),
        section("curves", Item("d"), Item("e", {"takes": 50.0}), Item("f")),
    )
    assert statuses(found, "ladder") == [("ok", ""), ("ok", ""), ("not run", "out of time")]
    assert statuses(found, "curves") == [("ok", ""), ("ok", ""), ("not run", "out of time")]
    assert [asked[2] for asked in worker.log if asked != "stop"] == [60.0, 50.0, 40.0, 39.0]


def test_what_is_not_here_is_not_asked_for(tmp_path: Path) -> None:
    item = Item("a", not_here="needs CUDA: a graph")
    found, (worker,) = run(tmp_path, section("ladder", item))
    assert statuses(found, "ladder") == [("needs CUDA", "a graph")]
    assert worker.log == ["stop"]


def test_a_section_that_cannot_begin_costs_no_other(tmp_path: Path) -> None:
    def broken(plan: Plan, journal: Journal) -> Items:
        raise KeyError("ceilings")

    bad = Section(name="ladder", title="", share=1.0, items=broken, line=str)
    found, _ = run(tmp_path, bad, section("curves", Item("a")))
    assert statuses(found, "ladder") == [("failed", "KeyError: 'ceilings'")]
    assert statuses(found, "curves") == [("ok", "")]


def test_fresh_ones_have_a_process_before_and_after_which_there_is_none(tmp_path: Path) -> None:
    _, (worker,) = run(tmp_path, section("ladder", Item("a", {"n": 1}), Item("b", {"n": 2}, fresh=True)))
    assert [entry if entry in ("end", "stop") else entry[1] for entry in worker.log] == [
        1,
        "end",
        2,
        "end",
        "stop",
    ]


def test_parallel_ones_have_children_of_their_own_but_for_those_that_want_to_be_alone(tmp_path: Path) -> None:
    items = [Item(str(n), {"n": n}) for n in range(5)] + [Item("huge", {"n": 9}, alone=True)]
    found, (alone, *others) = run(tmp_path, section("exactness", *items, parallel=True))
    assert {outcome.name for outcome in found.of("exactness")} == {"0", "1", "2", "3", "4", "huge"}
    assert [entry[1] for entry in alone.log if entry != "stop"] == [9]
    assert sum(len([entry for entry in other.log if entry != "stop"]) for other in others) == 5
    assert all(other.log[-1] == "stop" for other in others)


@pytest.mark.parametrize("parallel", [False, True])
def test_an_interruption_ends_the_children_and_keeps_what_there_is(tmp_path: Path, parallel: bool) -> None:
    items = [Item("a", {"n": 1}), Item("b", {"interrupted": 1}), Item("c", {"n": 3})]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, section("ladder", *items, parallel=parallel))
    (kept,) = read_record(tmp_path).results["sections"]["ladder"]["items"]
    assert kept["name"] == "a"


def test_sections_share_the_time_of_those_that_are_left_out(tmp_path: Path) -> None:
    assert sum(section.share for section in SECTIONS) == pytest.approx(1.0)
    items = [Item(name, {"takes": 10.0}) for name in "abcdefg"]
    found, _ = run(tmp_path, section("ladder", *items, share=0.2), section("curves", *items, share=0.3))
    done = [sum(status == "ok" for status, _ in statuses(found, name)) for name in ("ladder", "curves")]
    assert done == [4, 6]
