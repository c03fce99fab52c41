"""What is said of a cycle: nothing bad goes by."""

from dataclasses import replace

import pytest

from benchmark.chaos.judgement import HANG, LOST, SURVIVED, UNDOCUMENTED, WRONG, Evidence, Expected, judge

FAILS = Expected(statuses=(1,), says="case_00003")
FINE = Evidence(
    statuses=(1,),
    errors=("main.py: error: case_00003_x.npy: truncated\n",),
    had_checkpoint=True,
    steps_done=40,
    steps_kept=38,
    resumed_from=38,
)


def test_what_is_as_documented_is_survived() -> None:
    assert judge(FINE, FAILS).outcome == SURVIVED
    nothing_written = replace(FINE, had_checkpoint=False, steps_kept=None, resumed_from=0)
    assert judge(nothing_written, FAILS).outcome == SURVIVED


@pytest.mark.parametrize(
    ("damage", "outcome", "reason"),
    [
        ({"disturbed_ended": False}, HANG, "the disturbed run did not end"),
        ({"resumed_ended": False}, HANG, "the resumed run did not end"),
        ({"differences": ["/last_model_state_dict/a: 3 of 8 bytes differ"]}, WRONG, "bytes differ"),
        ({"steps_kept": None, "resumed_from": 0}, LOST, "none can be read"),
        ({"resumed_from": 36}, LOST, "resumed after step 36, the checkpoint has 38"),
        ({"resumed_from": 39}, UNDOCUMENTED, "resumed after step 39"),
        ({"resumed_from": None}, UNDOCUMENTED, "did not train"),
        ({"resumed_status": 1, "resumed_printed": "main.py: error: no"}, UNDOCUMENTED, "ended with 1"),
        ({"statuses": (-11,)}, UNDOCUMENTED, "ended with -11, expected 1"),
        ({"statuses": ()}, UNDOCUMENTED, "no status"),
        ({"errors": ("main.py: error: something\n",)}, UNDOCUMENTED, "rank 0 said"),
        ({"errors": (FINE.errors[0], "killed\n")}, UNDOCUMENTED, "rank 1 said"),
        ({"errors": (f"Traceback (most recent call last):\n{FINE.errors[0]}",)}, UNDOCUMENTED, "traceback"),
        ({"orphans": ["python worker"]}, UNDOCUMENTED, "left behind: python worker"),
        ({"shared_memory": ["torch_1_2"]}, UNDOCUMENTED, "left in /dev/shm: torch_1_2"),
        ({"leftovers": [".c.pth.tmp"]}, UNDOCUMENTED, "left beside the checkpoints: .c.pth.tmp"),
        ({"damaged": True, "resumed_printed": "continuing c.1.pth"}, UNDOCUMENTED, "without a warning"),
    ],
)
def test_what_is_not_is_named(damage: dict[str, object], outcome: str, reason: str) -> None:
    verdict = judge(replace(FINE, **damage), FAILS)  # type: ignore[arg-type]
    assert verdict.outcome == outcome
    assert reason in "; ".join(verdict.reasons)


def test_the_worst_is_the_outcome_and_all_is_said() -> None:
    found = replace(FINE, resumed_ended=False, differences=["a"], orphans=["b"])
    verdict = judge(found, FAILS)
    assert verdict.outcome == HANG
    assert len(verdict.reasons) == 3


def test_a_rank_that_was_killed_need_not_speak() -> None:
    found = replace(FINE, statuses=(-9, 1), errors=("main.py: error: rank 1 has ended\n", "something"))
    expected = Expected(statuses=(-9, 1), says="rank 1 has ended", silent=1)
    assert judge(found, expected).outcome == SURVIVED
    assert judge(found, replace(expected, silent=0)).outcome == UNDOCUMENTED


def test_a_signal_loses_no_step() -> None:
    expected = Expected(statuses=(143,), loses_nothing=True)
    found = replace(FINE, statuses=(143,))
    assert "2 steps are in no checkpoint" in judge(found, expected).reasons[0]
    assert judge(replace(found, steps_kept=40, resumed_from=40), expected).outcome == SURVIVED


def test_a_warning_of_a_damaged_checkpoint_is_heard() -> None:
    found = replace(FINE, damaged=True, resumed_printed="warning: c.pth: damaged\ncontinuing c.1.pth")
    assert judge(found, FAILS).outcome == SURVIVED
