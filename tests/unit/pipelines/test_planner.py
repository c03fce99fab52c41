import gc
import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.cases import Step
from pipelines.errors import DataError
from pipelines.planner import Planner


def steps(count: int) -> Iterator[Step]:
    return (Step(1, (i,), (i,)) for i in range(count))


def planner(work: object, count: int = 100, **changes: object) -> Planner[Step, int]:
    settings = {"threads": 2, "ahead": 3, "kept": 4, "timeout": 5.0} | changes
    return Planner(steps(count), work, names=lambda step: str(step.cases), **settings)  # type: ignore[arg-type]


def test_plans_come_in_order_and_only_so_far_ahead() -> None:
    begun = []

    def work(number: int, step: Step) -> int:
        begun.append(number)
        time.sleep(0.002 * (number % 3))
        assert step.cases == (number,)
        return number * number

    plans = planner(work, count=30)
    for number in range(30):
        assert plans.get(number) == number * number
        assert max(begun) <= number + 3
        if number >= 3:
            assert plans.get(number - 3) == (number - 3) ** 2
    assert sorted(begun) == list(range(30)), "each is made once"
    with pytest.raises(StopIteration):
        plans.get(30)
    plans.close()
    plans.close()


def test_an_error_is_raised_where_the_plan_is_asked_for() -> None:
    def work(number: int, step: Step) -> int:
        if number == 2:
            raise DataError("case_00002 is broken")
        return number

    plans = planner(work)
    assert plans.get(0) == 0
    assert plans.get(1) == 1
    with pytest.raises(DataError, match="case_00002 is broken"):
        plans.get(2)
    assert plans.get(3) == 3
    plans.close()


def test_a_time_limit_may_be_beyond_what_a_clock_can_hold() -> None:
    plans = planner(lambda number, step: number, timeout=float("inf"))
    assert plans.get(0) == 0
    plans.close()


def test_closing_waits_once_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.planner._CLOSING_S", 0.3)
    go = threading.Event()
    plans = planner(lambda number, step: go.wait(20), threads=6, ahead=6, timeout=0.05)
    with pytest.raises(DataError, match="could not be read"):
        plans.get(0)
    begin = time.monotonic()
    plans.close()
    assert time.monotonic() - begin < 1
    go.set()


def test_threads_end_with_a_planner_that_nobody_closed() -> None:
    plans = planner(lambda number, step: number)
    assert plans.get(0) == 0
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("planner")]
    assert mine
    del plans
    gc.collect()
    for thread in mine:
        thread.join(5)
    assert not any(thread.is_alive() for thread in mine)


def test_closing_leaves_what_has_not_begun() -> None:
    begun, go = [], threading.Event()

    def work(number: int, step: Step) -> int:
        begun.append(number)
        go.wait(5)
        return number

    plans = planner(work, threads=1, timeout=0.05)
    with pytest.raises(DataError, match=r"\(0,\) could not be read within 0.05 s"):
        plans.get(0)
    threading.Timer(0.1, go.set).start()
    plans.close()
    assert begun == [0]
