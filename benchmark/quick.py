"""Variants compared live: all run at the same time, in turns of a second.

What the machine does meanwhile meets all of them, so that their ratio is known far better than any rate.
Two processes of the same code differ by some percent all their lives, by where their memory happens to
lie: so there are several fresh ones of each variant, and the scatter of their ratios decides how sure the
ratio is.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.fresh_process import end_group
from pipelines.errors import DataError
from runtime.statistics import Interval, paired_ratio


@dataclass(frozen=True)
class Variant:
    """Flags of ``profile``, and the checkout whose code runs."""

    arguments: Sequence[str]
    checkout: Path


class Live:
    """What was measured so far.

    Args:
        variants: How many there are.
    """

    def __init__(self, variants: int) -> None:
        self.rates: list[list[float]] = [[] for _ in range(variants)]
        """Of each variant: images/s of each of its processes."""

    @property
    def done(self) -> int:
        """Processes of each variant."""
        return len(self.rates[-1])

    def ratio(self, variant: int) -> Interval:
        """A variant's rate over the first one's. Raises DataError where there are too few processes."""
        return paired_ratio(self.rates[variant], self.rates[0])


def measure(variants: Sequence[Variant], window_s: float, slice_s: float, rounds: int, live: Live) -> None:
    """Fill ``live``: in each of ``rounds`` a fresh process of each variant, in slices of about ``slice_s`` in
    the order A B B A A B ..., which make up ``window_s`` of each variant in all rounds together.

    Raises:
        DataError: a variant cannot run; the message says why.
    """
    slices = max(1, round(window_s / rounds / slice_s))
    with ExitStack() as servers:
        # Variants of one checkout are children of one process.
        serving = {
            checkout: servers.enter_context(_serving(checkout))
            for checkout in dict.fromkeys(variant.checkout for variant in variants)
        }
        for number in range(rounds):
            forwards = list(range(len(variants)))
            order = forwards if number % 2 == 0 else forwards[::-1]
            totals = [(0.0, 0.0)] * len(variants)
            with ExitStack() as children:
                running = {
                    k: children.enter_context(serving[variants[k].checkout].child(variants[k].arguments))
                    for k in order
                }
                for turn in range(slices):
                    for k in order if turn % 2 == 0 else order[::-1]:
                        found = running[k].slice(window_s / rounds / slices)
                        totals[k] = (totals[k][0] + found["images"], totals[k][1] + found["seconds"])
            for rates, (images, seconds) in zip(live.rates, totals, strict=True):
                rates.append(images / seconds)


class _Child:
    """A process that runs slices."""

    def __init__(self, answers: Any, requests: Any, log: Path) -> None:
        self._answers, self._requests, self._log = answers, requests, log
        self._answer()  # it is warm

    def slice(self, seconds: float) -> dict[str, float]:
        """``images``, and the ``seconds`` that they took."""
        print(seconds, file=self._requests, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, float]:
        if not (line := self._answers.readline()):
            said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise DataError(f"a variant ended: {said[-1] if said else 'it said nothing'}")
        answer: dict[str, float] = json.loads(line)
        return answer


class _Server:
    """A process that forks children."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process, self._folder, self._children = process, folder, 0

    @contextmanager
    def child(self, flags: Sequence[str]) -> Iterator[_Child]:
        """A fresh child; it ends with the block, and the block when it has."""
        self._children += 1
        names = [str(self._folder / f"{kind}-{self._children}") for kind in ("answers", "requests")]
        for name in names:
            os.mkfifo(name)
        asked = dict(zip(("answers", "requests"), names, strict=True)) | {"flags": list(flags)}
        assert self._process.stdin
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        with open(names[0], encoding="ascii") as answers:
            with open(names[1], "w", encoding="ascii") as requests:
                yield _Child(answers, requests, self._folder / "log.txt")
            answers.read()


@contextmanager
def _serving(checkout: Path) -> Iterator[_Server]:
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "log.txt").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmark.slices"],
                cwd=checkout,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
        try:
            yield _Server(process, Path(folder))
        finally:
            end_group(process)
            assert process.stdin
            process.stdin.close()
