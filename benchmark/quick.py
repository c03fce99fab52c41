"""Two variants compared live: both run at the same time, one after the other for a second at a time.

What the machine does meanwhile meets both, so that their ratio is known far better than either rate.
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
    """What was measured so far."""

    first: list[float] = field(default_factory=list)
    """Steps/s of each slice."""
    second: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> Interval:
        """The second's rate over the first's. Raises DataError where there are too few slices."""
        return paired_ratio(self.second, self.first)


def measure(variants: tuple[Variant, Variant], window_s: float, slice_s: float, live: Live) -> None:
    """Fill ``live`` with slices that make up ``window_s`` for each variant, in the order A B B A A B ...

    Raises:
        DataError: a variant cannot run; the message says why.
    """
    with ExitStack() as stack:
        sides = [stack.enter_context(_started(variant)) for variant in variants]
        for pair in range(max(1, round(window_s / slice_s))):
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            rates = {side: sides[side].rate(slice_s) for side in order}
            live.first.append(rates[0])
            live.second.append(rates[1])


class _Side:
    """A process that runs slices."""

    def __init__(self, process: "subprocess.Popen[str]", answers: Any, log: Path) -> None:
        self._process, self._answers, self._log = process, answers, log
        self._answer()  # it is warm

    def rate(self, seconds: float) -> float:
        """Steps/s of one slice."""
        assert self._process.stdin
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        found = self._answer()
        return float(found["steps"] / found["seconds"])

    def _answer(self) -> dict[str, float]:
        line = self._answers.readline()
        if not line:
            self._process.wait()
            raise DataError(death(self._process.returncode, self._log))
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
            assert process.stdin
            process.stdin.close()
            end_group(process)
