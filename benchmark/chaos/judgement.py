"""What a cycle showed, and what is to be said of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

SURVIVED = "survived"
WRONG = "wrong result"
HANG = "hang"
LOST = "lost checkpoint"
UNDOCUMENTED = "not as documented"
OUTCOMES = (SURVIVED, WRONG, HANG, LOST, UNDOCUMENTED)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the documentation says of a fault; see `benchmark.chaos.faults.base.Fault`."""

    statuses: Sequence[int]
    says: str = ""
    silent: int | None = None
    loses_nothing: bool = False


@dataclass(kw_only=True)
class Evidence:
    """Of one cycle. What was not come to is as if it were well."""

    disturbed_ended: bool = True
    """In time."""
    statuses: Sequence[int] = ()
    """Of the disturbed run's ranks."""
    errors: Sequence[str] = ()
    """What each of its ranks wrote to standard error."""
    orphans: Sequence[str] = ()
    """Command lines of processes that either run left."""
    shared_memory: Sequence[str] = ()
    """New names in /dev/shm."""
    leftovers: Sequence[str] = ()
    """Names beside the checkpoints that should not be there."""
    had_checkpoint: bool = False
    """Whether one had been written before the fault."""
    steps_done: int = 0
    """By the disturbed run."""
    steps_kept: int | None = None
    """In the newest whole checkpoint that it left; None where there is none."""
    damaged: bool = False
    """Whether the newest checkpoint could not be read after the fault."""
    resumed_from: int | None = None
    """Steps done where the resumed run began; None where it did not begin to train."""
    resumed_ended: bool = True
    resumed_status: int = 0
    resumed_printed: str = ""
    differences: Sequence[str] = field(default_factory=list)
    """From the uninterrupted run."""


@dataclass(frozen=True)
class Verdict:
    """An item of ``OUTCOMES``, and why it is not the first."""

    outcome: str
    reasons: tuple[str, ...] = ()


def judge(found: Evidence, expected: Expected) -> Verdict:
    """The worst that was found, with all that was."""
    hangs: list[str] = []
    lost: list[str] = []
    other: list[str] = []
    if not found.disturbed_ended:
        hangs.append("the disturbed run did not end in time")
    if not found.resumed_ended:
        hangs.append("the resumed run did not end in time")
    if found.had_checkpoint and found.steps_kept is None:
        lost.append("a checkpoint had been written, and none can be read")
    begun = found.resumed_from
    if begun is not None and begun != (kept := found.steps_kept or 0):
        (lost if begun < kept else other).append(f"resumed after step {begun}, the checkpoint has {kept}")
    if found.disturbed_ended:
        other += _undocumented_end(found, expected)
    if found.resumed_ended:
        other += _undocumented_resumption(found)
    other += [f"left behind: {line}" for line in found.orphans]
    other += [f"left in /dev/shm: {name}" for name in found.shared_memory]
    other += [f"left beside the checkpoints: {name}" for name in found.leftovers]
    for outcome, reasons in ((HANG, hangs), (WRONG, found.differences), (LOST, lost), (UNDOCUMENTED, other)):
        if reasons:
            return Verdict(outcome, (*hangs, *found.differences, *lost, *other))
    return Verdict(SURVIVED)


def last_line(text: str) -> str:
    """The last that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _undocumented_end(found: Evidence, expected: Expected) -> list[str]:
    said = []
    if not found.statuses or not set(found.statuses) <= set(expected.statuses):
        wanted = " or ".join(map(str, expected.statuses))
        said.append(f"ended with {' and '.join(map(str, found.statuses)) or 'no status'}, expected {wanted}")
    for rank, text in enumerate(found.errors):
        if "Traceback (most recent call last)" in text:
            said.append(f"rank {rank} printed a traceback, which ends with {last_line(text)!r}")
        silent = rank == expected.silent or set(found.statuses) == {0}
        if expected.says and not silent and not re.search(expected.says, last_line(text)):
            said.append(f"rank {rank} said {last_line(text)!r}, expected {expected.says!r}")
    lost = found.steps_done - (found.steps_kept or 0)
    if expected.loses_nothing and lost:
        said.append(f"{lost} steps are in no checkpoint, expected one of the last step")
    return said


def _undocumented_resumption(found: Evidence) -> list[str]:
    said = []
    if found.resumed_status:
        line = last_line(found.resumed_printed)
        said.append(f"the resumed run ended with {found.resumed_status}: {line}")
    elif found.resumed_from is None:
        said.append("the resumed run did not train")
    if "Traceback (most recent call last)" in found.resumed_printed:
        said.append("the resumed run printed a traceback")
    if found.damaged and not re.search("^(main.py: )?warning: ", found.resumed_printed, re.MULTILINE):
        said.append("a damaged checkpoint was passed over without a warning")
    return said
