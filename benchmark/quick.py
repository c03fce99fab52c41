"""Two variants compared live: both run at the same time, in turns of a second.

What the machine does meanwhile meets both, so that their ratio is known far better than either rate. Two
processes of the same code differ by some percent all their lives, by where their memory happens to lie:
so there are several fresh ones of each side, in pairs, and the scatter of the pairs decides how sure the
ratio is.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.fresh_process import death, end_group
from pipelines.errors import DataError
from runtime.statistics import Interval, paired_ratio


@dataclass(frozen=True)
class Variant:
    """One side: flags of ``profile``, and the checkout whose code runs."""

    arguments: Sequence[str]
    checkout: Path


@dataclass
class Live:
    """What was measured so far: images/s of each pair of processes."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> Interval:
        """The second's rate over the first's. Raises DataError where there are too few pairs."""
        return paired_ratio(self.second, self.first)


def measure(
    variants: tuple[Variant, Variant], window_s: float, slice_s: float, pairs: int, live: Live
) -> None:
    """Fill ``live`` with ``pairs`` of fresh processes, which share ``window_s`` for each side, in slices of
    about ``slice_s`` in the order A B B A A B ...

    Raises:
        DataError: a variant cannot run; the message says why.
    """
    slices = max(1, round(window_s / pairs / slice_s))
    with ExitStack() as stack:
        sides = [stack.enter_context(_started(variant)) for variant in variants]
        for number in range(pairs):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            for side in order:
                sides[side].ask("new")
            done = [(0.0, 0.0), (0.0, 0.0)]
            for turn in range(slices):
                for side in order if turn % 2 == 0 else order[::-1]:
                    found = sides[side].ask(str(window_s / pairs / slices))
                    images, seconds = done[side]
                    done[side] = (images + found["images"], seconds + found["seconds"])
            for side in order:
                sides[side].ask("end")
            live.first.append(done[0][0] / done[0][1])
            live.second.append(done[1][0] / done[1][1])


class _Side:
    """A process whose children run slices."""

    def __init__(self, process: "subprocess.Popen[str]", answers: Any, log: Path) -> None:
        self._process, self._answers, self._log = process, answers, log

    def ask(self, request: str) -> dict[str, float]:
        """The answer to a request, see `benchmark.slices`."""
        assert self._process.stdin
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DataError(death(self._process.wait(), self._log))
        answer: dict[str, float] = json.loads(line)
        return answer


@contextmanager
def _started(variant: Variant) -> Iterator[_Side]:
    ours, theirs = os.pipe()
    with tempfile.TemporaryDirectory() as folder, os.fdopen(ours) as answers:
        log = Path(folder) / "log.txt"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmark.slices", str(theirs), *variant.arguments],
                cwd=variant.checkout,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs],
                start_new_session=True,
                text=True,
            )
        os.close(theirs)
        try:
            yield _Side(process, answers, log)
        finally:
            end_group(process)
            assert process.stdin
            process.stdin.close()
