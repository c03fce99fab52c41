"""``python -m benchmark sweep``: profiles over a grid of flags, in turn and in fresh processes."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.fresh_process import ProcessError, run_fresh
from benchmark.page.command import write_page
from benchmark.profile.command import add_arguments as add_profile_flags
from benchmark.profile.text import headline
from benchmark.record import Record, write_record
from benchmark.sweep.grid import Axis, Flags, arguments, axis, duration, interleaved, points, without
from benchmark.sweep.outcome import point_name, summary, workers_that_do
from pipelines.errors import DataError
from preprocess.flags import positive

_PLAN = "sweep.json"
"""What the folder is of: a sweep goes on only where it is the same."""
_OWN = frozenset({"axis", "repetitions", "budget", "out", "limit"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``profile``, and those of the sweep."""
    add_profile_flags(parser)
    add = parser.add_argument_group("Sweep").add_argument
    add(
        "--axis", type=axis, action="append", required=True, metavar="FLAG=VALUE,VALUE",
        help="a flag of this command and the values that it takes (several words in one value: a space "
        "between them; switches: on, off); may be given more than once",
    )  # fmt: skip
    add(
        "--repetitions", type=positive, default=2, help="fresh processes for each point, in alternating order"
    )
    add("--budget", type=duration, metavar="20m", help="stop in time, with what there is")
    add("--limit", type=duration, default=1800.0, metavar="30m", help="what one process may take")
    parser.set_defaults(parser=parser, rounds=1, seconds=5.0)


def run(flags: argparse.Namespace) -> int:
    """Measure what is not there yet, and write a record for each point, one for the sweep, and the page.

    Raises:
        DataError: an axis that is no flag, or a folder of another sweep.
        OSError: nothing can be written.
    """
    switches = _check_axes(flags.parser, flags.axis)
    for one in flags.axis:
        if f"--{one.name}" in flags.argv or any(word.startswith(f"--{one.name}=") for word in flags.argv):
            raise DataError(f"--{one.name} is an axis and is given besides: drop one of them")
    folder = flags.out or flags.log_dir / "sweep"
    # Given or not, these are the sweep's own defaults.
    base = [*without(flags.argv[1:], _OWN), "--rounds", str(flags.rounds), "--seconds", str(flags.seconds)]
    sweep = Sweep(folder, flags.axis, base, switches, flags.repetitions)
    sweep.claim()
    status = 0
    try:
        sweep.measure(flags.budget, flags.limit)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    return sweep.conclude(["python", "-m", "benchmark", *flags.argv]) or status


class Sweep:
    """A grid, its folder, and how far it is.

    Args:
        folder: For everything that it writes.
        axes: Of the grid.
        base: Flags of ``profile`` that all points share.
        switches: Names of flags without a value.
        repetitions: Of each point.
    """

    def __init__(
        self, folder: Path, axes: Sequence[Axis], base: list[str], switches: frozenset[str], repetitions: int
    ) -> None:
        self._folder, self._axes, self._base, self._switches = folder, axes, base, switches
        self._repetitions = repetitions
        self._points: list[Flags] = points(axes)
        self._reasons: dict[int, str] = {}

    def claim(self) -> None:
        """Make the folder, or find that it holds the same sweep.

        Raises:
            DataError: it holds another.
        """
        plan = {"axes": {one.name: one.values for one in self._axes}, "base": self._base}
        content = json.dumps(plan, indent=2)
        path = self._folder / _PLAN
        if path.exists() and path.read_text(encoding="utf-8") != content:
            raise DataError(f"{self._folder} holds another sweep: give another --out, or remove it")
        self._folder.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def measure(self, budget_s: float | None, limit_s: float) -> None:
        """Every repetition that has no record yet, until ``budget_s`` is used up."""
        waiting = [
            turn
            for turn in interleaved(len(self._points), self._repetitions)
            if not self._part(*turn).exists()
        ]
        begin, done = time.monotonic(), 0
        with tqdm(waiting, desc="sweep", unit="run") as bar:
            for point, repetition in bar:
                spent = time.monotonic() - begin
                if budget_s and done and spent * (done + 1) / done > budget_s:
                    print(
                        f"--budget: stopped after {done} of {len(waiting)} runs, {spent:.0f} s",
                        file=sys.stderr,
                    )
                    break
                if point in self._reasons:
                    continue
                bar.set_postfix_str(" ".join(f"{k}={v}" for k, v in self._points[point].items()))
                self._measure(point, repetition, limit_s)
                done += 1

    def conclude(self, command: list[str]) -> int:
        """Write the records and the page, and print them; 1 where no point could be measured."""
        parts = [
            [part for r in range(self._repetitions) if (part := self._part(number, r)).exists()]
            for number in range(len(self._points))
        ]
        found = summary(self._folder, self._points, parts, self._reasons)
        complete = all(len(done) == self._repetitions or n in self._reasons for n, done in enumerate(parts))
        results: dict[str, Any] = {
            "axes": {one.name: list(one.values) for one in self._axes},
            "repetitions": self._repetitions,
            "complete": complete,
            "workers": workers_that_do(found),
            "points": found,
        }
        record = Record(suite="sweep", command=command, results=results, config={"base": self._base})
        write_record(record, self._folder / "record.json")
        for point in found:
            name = " ".join(f"{k}={v}" for k, v in point["flags"].items())
            if point["status"] != "ok":
                print(f"{name}: {point['status']} {point['reason']}".rstrip())
            else:
                print(
                    f"{name}: {headline(point['results'])}; {point['results']['findings']['verdict']['name']}"
                )
        print(*results["workers"], sep="\n")
        if not complete:
            print("the sweep is not complete: the same command goes on where it stopped")
        print(f"record: {self._folder / 'record.json'}")
        if not any(point["status"] == "ok" for point in found):
            return 1
        write_page([(self._folder, record)], self._folder / "report.html")
        print(f"page: {self._folder / 'report.html'}")
        return 0

    def _part(self, point: int, repetition: int) -> Path:
        return self._folder / "parts" / f"{point_name(point)}-{repetition + 1}" / "record.json"

    def _measure(self, point: int, repetition: int, limit_s: float) -> None:
        out = self._part(point, repetition).parent
        out.mkdir(parents=True, exist_ok=True)
        own = arguments(self._points[point], self._switches)
        command = [sys.executable, "-m", "benchmark", "profile", *self._base, *own, "--out", str(out)]
        log = out / "log.txt"
        try:
            run_fresh([*command, "--process", str(repetition)], log, limit_s)
        except ProcessError as error:
            said = log.read_text(encoding="utf-8", errors="replace")
            memory = "out of memory: " if "out of memory" in said.lower() else ""
            self._reasons[point] = memory + str(error)


def _check_axes(parser: argparse.ArgumentParser, axes: Sequence[Axis]) -> frozenset[str]:
    """The flags without a value. Raises DataError for an axis that names no flag that can be one."""
    actions = {option.removeprefix("--"): action for option, action in parser._option_string_actions.items()}
    switches = frozenset(name for name, action in actions.items() if action.nargs == 0)
    names = [one.name for one in axes]
    for one in axes:
        if one.name not in actions or one.name in _OWN | {"help", "process"}:
            raise DataError(
                f"--axis {one.name}: there is no such flag of profile to vary; see profile --help"
            )
        if names.count(one.name) > 1:
            raise DataError(f"--axis {one.name} is given twice: put all its values into one")
        if one.name in switches and not set(one.values) <= {"on", "off"}:
            raise DataError(
                f"--axis {one.name} is a switch, expected on or off, found {','.join(one.values)}"
            )
    return switches
