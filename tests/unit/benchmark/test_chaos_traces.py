"""What runs wrote down of themselves, compared."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from benchmark.chaos.traces import Step, Trace, parts_differ, read_trace

LINES = """begin 77 5.0
start 1 0 4
step 1 1 aa 0x1p-1 6.0
step 1 2 bb 0x1p-2 6.5
step 1 3 cc 0x1p-3 7.0
step 1 4 dd 0x1p-4 7.5
epoch 1 0x1p-2
score 1 0x1p-5 0x1p-6 0x1p-7 7.75
step 2 1 ee 0x1p-5 8.0
"""


def whole() -> Trace:
    steps = [Step(1 + i // 4, 1 + i % 4, f"{i:02x}", f"0x{i}", float(i)) for i in range(12)]
    return Trace(1, 0.0, (1, 0), 4, steps, {1: "a", 2: "b", 3: "c"}, {2: ("d",), 3: ("e",)})


def parts(done: int = 7, kept: int = 6) -> list[Trace]:
    """A run that was ended after ``done`` steps, and what went on from a checkpoint after ``kept``."""
    run = whole()
    ended = Trace(1, 0.0, (1, 0), 4, run.steps[:done], {1: "a"}, {})
    later = [Step(one.epoch, one.step, one.batches, one.loss, one.at + 99) for one in run.steps[kept:]]
    resumed = Trace(2, 9.0, (1 + kept // 4, kept % 4), 4, later, {2: "b", 3: "c"}, dict(run.scores))
    return [ended, resumed]


def test_a_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "trace.0"
    assert read_trace(path).behind is None
    path.write_text(LINES)
    trace = read_trace(path)
    assert (trace.pid, trace.began, trace.start, trace.behind) == (77, 5.0, (1, 0), 0)
    assert [one.batches for one in trace.steps] == ["aa", "bb", "cc", "dd", "ee"]
    assert trace.scored == 7.75
    assert (trace.epochs, trace.scores) == ({1: "0x1p-2"}, {1: ("0x1p-5", "0x1p-6", "0x1p-7")})


def test_parts_that_are_the_whole_do_not_differ() -> None:
    assert parts_differ([whole()], [[part] for part in parts()]) == []
    assert parts_differ([whole(), whole()], [[part, part] for part in parts()]) == []
    nothing_left = [whole(), Trace(2, 9.0, (4, 0), 4)]
    assert parts_differ([whole()], [[part] for part in nothing_left]) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda a, b: b.steps.__setitem__(0, Step(2, 3, "xx", "0x6", 0.0)), "reads other samples"),
        (lambda a, b: b.steps.__setitem__(1, Step(2, 4, "07", "0x0", 0.0)), "has another loss"),
        (lambda a, b: a.steps.__setitem__(0, Step(1, 1, "xx", "0x0", 0.0)), "part 1"),
        (lambda a, b: b.steps.pop(), "ended after step 11 of 12"),
        (lambda a, b: b.steps.pop(0), "reads other samples"),
        (lambda a, b: b.steps.append(b.steps[-1]), "1 steps too many"),
        (lambda a, b: b.epochs.update({2: "x"}), "training loss of epoch 2 is x, expected b"),
        (lambda a, b: b.epochs.pop(2), "training loss of epochs [2] is in no part"),
        (lambda a, b: b.scores.update({3: ("x",)}), "scores of epoch 3"),
        (lambda a, b: b.scores.pop(2), "scores of epochs [2] is in no part"),
    ],
)
def test_a_difference_is_said(spoil: Callable[[Trace, Trace], object], said: str) -> None:
    ended, resumed = deepcopy(parts())
    spoil(ended, resumed)
    assert said in "; ".join(parts_differ([whole()], [[ended], [resumed]]))
