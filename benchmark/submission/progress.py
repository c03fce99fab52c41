"""How far a series of runs has come: its finished logs, and those that are being written."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.mllog.figures import Run, figures
from benchmark.mllog.log import Event, as_number, read_log
from benchmark.submission.gather import number
from benchmark.submission.lines import Line, read_lines
from benchmark.submission.trimmed import Trimmed, trimmed_mean
from pipelines.errors import DataError
from runtime.logging import LOG_NAME

FOLDER = re.compile(r"run_(\d+)")


@dataclass(frozen=True)
class Finished:
    """A run with a result."""

    number: int
    run: Run
    minutes: float
    """From its first event to its last."""
    batch: int | None
    convergence: float | None
    """``epoch_num`` of its last evaluation; None where it did not converge."""


@dataclass(frozen=True)
class Underway:
    """A run without a result, as far as its log has come."""

    number: int
    minutes: float
    """From its first event to its last."""
    stopped: str | None
    """The status of its run_stop, where it has one."""
    place: float | None
    """``epoch_num`` of its last evaluation."""
    mean_dice: float | None
    idle_minutes: float
    """Since the log was last written."""


@dataclass(frozen=True)
class Progress:
    """All runs of a folder."""

    finished: tuple[Finished, ...]
    underway: tuple[Underway, ...]
    broken: tuple[str, ...]
    """Results that cannot be read, each in a sentence; they count as runs that did not converge."""

    @property
    def converged(self) -> tuple[Finished, ...]:
        """The runs that count."""
        return tuple(one for one in self.finished if one.run.converged)

    @property
    def unconverged(self) -> int:
        """How many do not."""
        return len(self.finished) + len(self.broken) - len(self.converged)

    @property
    def minutes(self) -> Trimmed | None:
        """Time to train by the runs so far."""
        return trimmed_mean([one.run.minutes for one in self.converged], self.unconverged)

    @property
    def convergence(self) -> Trimmed | None:
        """Samples to converge by the runs so far; epochs where the logs count these."""
        places = [one.convergence for one in self.converged if one.convergence is not None]
        return trimmed_mean(places, self.unconverged)

    @property
    def batches(self) -> set[int]:
        """Global batch sizes."""
        return {one.batch for one in self.finished if one.batch}

    def minutes_left(self, runs: int) -> float | None:
        """Until there are ``runs`` results, if one run follows another; None where no run tells how long."""
        if not self.finished:
            return None
        each = sum(one.minutes for one in self.finished) / len(self.finished)
        done = len(self.finished) + len(self.broken)
        begun = sum(min(each, one.minutes) for one in self.underway if one.stopped is None)
        return max(0.0, (runs - done) * each - begun)


def read_progress(folder: Path) -> Progress:
    """What ``result_<i>.txt`` and ``run_<i>/unet3d.log`` tell.

    Raises:
        DataError: There is no such folder, or it cannot be read.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name))
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror}), expected the folder of a series of runs"
        ) from error
    finished = []
    broken = []
    for path in entries:
        if number(path) < 0:
            continue
        try:
            finished.append(_finished(path))
        except DataError as error:
            broken.append(str(error))
        except OSError as error:
            broken.append(f"{path} cannot be read ({error.strerror})")
    done = {number(path) for path in entries}
    return Progress(tuple(finished), tuple(_underway(entries, done)), tuple(broken))


def _finished(path: Path) -> Finished:
    log = read_log(path)
    run = figures(log)
    times = [event.time_ms for event in log.events]
    scores: Sequence[Event] = log.during("eval_accuracy")
    place = as_number(scores[-1].metadata.get("epoch_num")) if scores and run.converged else None
    batch = run.global_batch_size
    return Finished(
        number(path), run, (max(times) - min(times)) / 60_000, int(batch) if batch else None, place
    )


def _underway(entries: Sequence[Path], done: set[int]) -> Iterator[Underway]:
    for entry in entries:
        found = FOLDER.fullmatch(entry.name)
        log = entry / LOG_NAME
        if not found or int(found[1]) in done or not log.is_file():
            continue
        # The line that is being written is no fault.
        lines, _ = read_lines(log)
        if lines:
            yield _state(int(found[1]), lines, (time.time() - log.stat().st_mtime) / 60)


def _state(run: int, lines: Sequence[Line], idle_minutes: float) -> Underway:
    stops = [line for line in lines if line.key == "run_stop"]
    scores = [line for line in lines if line.key == "eval_accuracy"]
    return Underway(
        number=run,
        minutes=(lines[-1].time_ms - lines[0].time_ms) / 60_000,
        stopped=str(stops[-1].metadata.get("status")) if stops else None,
        place=as_number(scores[-1].metadata.get("epoch_num")) if scores else None,
        mean_dice=as_number(scores[-1].value) if scores else None,
        idle_minutes=idle_minutes,
    )
