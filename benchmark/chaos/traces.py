"""What a run wrote down of itself: see `benchmark.chaos.child`.

Lines are ``begin PID TIME``, ``start EPOCH STEP STEPS_PER_EPOCH``, ``step EPOCH STEP HASH LOSS TIME``,
``epoch EPOCH LOSS`` and ``score EPOCH DICE LOSS TRAIN_LOSS TIME``. Times are on time.monotonic, numbers that
must not lose a bit are hexadecimal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """An optimiser step; equal to another whenever it was."""

    epoch: int
    step: int
    batches: str
    """Hash of the rank's batches of this step."""
    loss: str
    at: float = field(compare=False)


@dataclass
class Trace:
    """One rank's."""

    pid: int | None = None
    began: float = 0.0
    """When ``main.py`` was about to run."""
    start: tuple[int, int] | None = None
    """Epoch, and the steps of it that were done before; None where training did not begin."""
    steps_per_epoch: int = 0
    steps: list[Step] = field(default_factory=list)
    epochs: dict[int, str] = field(default_factory=dict)
    """Training loss of an epoch; on rank 0 alone, as the scores."""
    scores: dict[int, tuple[str, ...]] = field(default_factory=dict)
    scored: float = 0.0
    """When the last evaluation was done."""

    @property
    def behind(self) -> int | None:
        """Steps of the whole run that were done before this part of it began."""
        if self.start is None:
            return None
        epoch, step = self.start
        return (epoch - 1) * self.steps_per_epoch + step


def read_trace(path: Path) -> Trace:
    """What there is so far; a rank that wrote nothing yet has an empty one."""
    trace = Trace()
    if not path.exists():
        return trace
    # What follows the last end of a line is still being written.
    for line in path.read_text(encoding="ascii").rpartition("\n")[0].splitlines():
        kind, *words = line.split()
        if kind == "begin":
            trace.pid, trace.began = int(words[0]), float(words[1])
        elif kind == "start":
            trace.start, trace.steps_per_epoch = (int(words[0]), int(words[1])), int(words[2])
        elif kind == "step":
            trace.steps.append(Step(int(words[0]), int(words[1]), words[2], words[3], float(words[4])))
        elif kind == "epoch":
            trace.epochs[int(words[0])] = words[1]
        else:
            epoch, *values, at = words
            trace.scores[int(epoch)], trace.scored = tuple(values), float(at)
    return trace


def parts_differ(whole: Sequence[Trace], parts: Sequence[Sequence[Trace]]) -> list[str]:
    """In what a run that was interrupted, ``parts``, is not the ``whole`` one; both hold a trace a rank.

    Each part has to follow the whole run from where it started, and all epochs and scores of the whole run
    have to be there.
    """
    found = []
    for rank, expected in enumerate(whole):
        for number, part in enumerate(parts, start=1):
            behind = part[rank].behind
            if behind is not None and (wrong := _first_difference(expected.steps[behind:], part[rank].steps)):
                found.append(f"part {number}, rank {rank}: {wrong}")
        last = parts[-1][rank]
        if last.behind is not None and last.behind + len(last.steps) != len(expected.steps):
            found.append(
                f"rank {rank} ended after step {last.behind + len(last.steps)} of {len(expected.steps)}"
            )
    first = [part[0] for part in parts]
    return [
        *found,
        *_values_differ("training loss", whole[0].epochs, [trace.epochs for trace in first]),
        *_values_differ("scores", whole[0].scores, [trace.scores for trace in first]),
    ]


def _values_differ(
    what: str, expected: Mapping[int, object], parts: Sequence[Mapping[int, object]]
) -> list[str]:
    """Of epochs: every value of a part has to be the expected one, and each has to be in one."""
    found = [
        f"part {number}: {what} of epoch {epoch} is {value}, expected {expected.get(epoch)}"
        for number, part in enumerate(parts, start=1)
        for epoch, value in part.items()
        if expected.get(epoch) != value
    ]
    missing = sorted(set(expected).difference(*parts))
    return [*found, *([f"{what} of epochs {missing} is in no part"] if missing else [])]


def _first_difference(expected: Sequence[Step], found: Sequence[Step]) -> str:
    for one, other in zip(expected, found, strict=False):
        if one != other:
            what = "reads other samples" if one.batches != other.batches else "has another loss"
            return f"epoch {other.epoch} step {other.step} {what} (expected {one}, found {other})"
    if len(found) > len(expected):
        return f"{len(found) - len(expected)} steps too many"
    return ""
