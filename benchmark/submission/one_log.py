"""One run's log: may it be submitted?"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.mllog import rules
from benchmark.mllog.figures import Run, figures
from benchmark.mllog.log import Log, read_log
from benchmark.submission import keys, order
from benchmark.submission.keys import Found
from benchmark.submission.lines import Line, read_lines
from benchmark.submission.objections import Objection
from pipelines.errors import DataError
from runtime.mlperf_arguments import TEST_PLATFORM, in_samples

ADVICE = {
    "test run": "make the run under --mlperf_division closed",
    "cache clear": "make the run as root, so that run_and_time.sh can drop the caches",
    "init time": "warm up less, and make the run again",
    "seeds": "give the run a seed of its own and make it again",
    "epoch unit": "package the runs with their --ruleset, or make them with --mlperf_ruleset of the round",
    "closed rules": "the division leaves no choice: make the run again with --mlperf_division closed",
    "order": "do not edit logs, make the run again",
    "values": "do not edit logs, make the run again",
    "trained on": "make the run again with --quality_threshold 0.908",
    "weights": "make the runs with --mlperf_ruleset of the round",
}
"""What to do about a rule."""

ANEW = "make the run again with main.py, which logs it"


@dataclass(frozen=True)
class RunFile:
    """A log that could be read."""

    log: Log
    run: Run
    lines: tuple[Line, ...]

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.log.path

    @property
    def is_test(self) -> bool:
        """Whether it was logged under closed-test."""
        return str(self.log.value("submission_platform")).startswith(TEST_PLATFORM)

    @property
    def convergence(self) -> float | None:
        """``epoch_num`` of the last evaluation, as rcp_checker has it; None if the run did not converge."""
        if not self.run.converged:
            return None
        place: float = [line for line in self.lines if line.key == "eval_accuracy"][-1].metadata["epoch_num"]
        return round(place, 3)


def inspect_log(
    path: Path, ruleset: str, *, rehearsal: bool = False
) -> tuple[RunFile | None, list[Objection]]:
    """The log, where it can be read as one run, and all that keeps it from being submitted under ``ruleset``.

    Args:
        path: The log.
        ruleset: One of ``RULESETS``.
        rehearsal: Expect a test run, instead of refusing it.

    Raises:
        OSError: The file cannot be read.
    """
    lines, objections = read_lines(path)
    if not objections or lines:
        status = next((line.metadata.get("status") for line in lines if line.key == "run_stop"), None)
        found = [*keys.of_lines(lines, str(status)), *order.of_lines(lines, ruleset)]
        objections += [_objection(path, *one) for one in found]
    try:
        log = read_log(path)
    except DataError as error:
        if not any(objection.rule == "lines" for objection in objections):
            what = str(error).removeprefix(f"{path}: ")
            objections.append(Objection("one run", str(path), what, "make the run again, from start to end"))
        return None, objections
    run = RunFile(log, figures(log), lines)
    objections += [_objection(path, *one) for one in _of_run(run, ruleset, rehearsal)]
    return run, objections


def _objection(path: Path, rule: str, found: str) -> Objection:
    return Objection(rule, str(path), found, ADVICE.get(rule, ANEW))


def _of_run(run: RunFile, ruleset: str, rehearsal: bool) -> Iterator[Found]:
    if run.is_test and not rehearsal:
        yield "test run", f"submission_platform begins with {TEST_PLATFORM!r}, expected a run that is no test"
    if rehearsal and not run.is_test:
        platform = json.dumps(run.log.value("submission_platform"))
        yield (
            "rehearsal",
            f"submission_platform is {platform}, expected a test run, which begins {TEST_PLATFORM!r}",
        )
    if run.log.value("resumed") is not None:
        yield "closed rules", "the run goes on after another, expected one that begins with initial weights"
    if (case := run.log.value("bad_case")) is not None:
        yield "closed rules", f"samples of {case} were replaced, expected the whole data set"
    if run.log.status not in ("success", "aborted"):
        yield "values", f"run_stop has the status {run.log.status}, expected success or aborted"
    unit = "samples" if in_samples(ruleset) else "epochs"
    if run.run.evaluations and run.run.counts_samples != in_samples(ruleset):
        other = "epochs" if in_samples(ruleset) else "samples"
        yield "epoch unit", f"epoch_num of evaluations counts {other}, expected {unit} by ruleset {ruleset}"
    for sentence in rules.of_run(run.log, run.run):
        # Keys that are not logged have been named.
        if not sentence.startswith("logs no "):
            yield "closed rules", sentence
