"""The runs of one folder as one result: what is right for all of them together."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.mllog import folders, rules
from benchmark.mllog.figures import Run, figures
from benchmark.mllog.folders import Accelerators
from benchmark.mllog.log import Log, read_log
from benchmark.mllog.score import official_mean
from pipelines.errors import DataError

METHOD = (
    "minutes: run_stop - run_start; of a result, the mean without the 4 fastest and the 4 slowest runs, "
    "where those that did not converge are the slowest (mlperf_logging.result_summarizer), before the factor "
    "of scaling.json. samples: at the last evaluation; of a result, the mean by the same rule. images_per_s: "
    "median over the cycles of a run that ended before run_stop, then over runs. end_to_end_images_per_s: "
    "samples / (run_stop - run_start), median over runs. evaluation_share: time of evaluations / (run_stop - "
    "run_start), median over runs. All that is per accelerator counts all accelerators of the system, also "
    "those that only evaluate."
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The logs of one folder."""

    folder: Path
    label: str
    accelerators: Accelerators
    runs: tuple[Run, ...]
    """Those that could be read."""
    broken: tuple[str, ...]
    """Why others could not, each in a sentence; they count as runs that did not finish."""
    deviations: dict[str, tuple[str, ...]]
    """From the rules: sentences, and the files of the runs; no files where it is all runs together."""
    settings: dict[str, list[Any]]
    """What the runs log as chosen by the submitter: different values by key."""
    scaling_factor: float | None

    @property
    def converged(self) -> tuple[Run, ...]:
        """The runs that count."""
        return tuple(run for run in self.runs if run.converged)

    @property
    def unconverged(self) -> int:
        """How many do not, broken ones among them."""
        return len(self.runs) + len(self.broken) - len(self.converged)

    @property
    def score_minutes(self) -> float | None:
        """The official time to train, unscaled."""
        return official_mean((run.minutes for run in self.converged), self.unconverged)

    @property
    def samples_to_converge(self) -> float | None:
        """The official mean of samples."""
        samples = [run.samples for run in self.converged if run.samples is not None]
        return official_mean(samples, self.unconverged)

    def median(self, name: str) -> float | None:
        """Of what ``Run`` calls so, over the runs that tell it."""
        return _median(getattr(run, name) for run in self.runs)

    def each(self, rate: float | None) -> float | None:
        """A rate per accelerator."""
        return rate / self.accelerators.count if rate and self.accelerators.count else None

    @property
    def estimators(self) -> tuple[str, ...]:
        """How images/s were found; more than one where runs differ."""
        return tuple(dict.fromkeys(run.estimator for run in self.runs if run.estimator))


def read_result(folder: Path, files: Sequence[Path], gpus: int | None) -> Result:
    """Read the logs of a folder; one that is broken does not stop the others.

    Raises:
        DataError: scaling.json is broken.
    """
    logs: list[Log] = []
    broken = []
    for file in files:
        try:
            logs.append(read_log(file))
        except DataError as error:
            broken.append(str(error))
        except OSError as error:
            broken.append(f"{file} cannot be read: {error.strerror}")
    runs = tuple(figures(log) for log in logs)
    deviations: dict[str, tuple[str, ...]] = dict.fromkeys(rules.of_set(logs, len(broken)), ())
    for log, run in zip(logs, runs, strict=True):
        for sentence in rules.of_run(log, run):
            deviations[sentence] = (*deviations.get(sentence, ()), run.file)
    result = Result(
        folder=folder,
        label=folders.label(folder),
        accelerators=folders.accelerators(folder, gpus),
        runs=runs,
        broken=tuple(broken),
        deviations=deviations,
        settings={key: rules.different(logs, key) for key in ("opt_name", *rules.FREE)},
        scaling_factor=folders.scaling_factor(folder),
    )
    for sentence in rules.too_many_unconverged(result.unconverged):
        deviations[sentence] = ()
    return result


def as_record(result: Result) -> dict[str, Any]:
    """Plain values: every number of a result and of its runs."""
    training, end_to_end = result.median("images_per_s"), result.median("end_to_end_images_per_s")
    minutes = [run.minutes for run in result.converged]
    score = result.score_minutes
    return {
        "folder": result.folder,
        "label": result.label,
        "accelerators": asdict(result.accelerators),
        "runs": len(result.runs) + len(result.broken),
        "converged": len(result.converged),
        "score_minutes": score,
        "scaling_factor": result.scaling_factor,
        "published_minutes": score * result.scaling_factor if score and result.scaling_factor else None,
        "converged_minutes": {
            "min": min(minutes, default=None),
            "median": _median(minutes),
            "max": max(minutes, default=None),
        },
        "samples_to_converge": result.samples_to_converge,
        "images_per_s": training,
        "images_per_s_per_accelerator": result.each(training),
        "end_to_end_images_per_s": end_to_end,
        "end_to_end_images_per_s_per_accelerator": result.each(end_to_end),
        "estimators": result.estimators,
        "evaluations": result.median("evaluation_count"),
        "evaluation_share": result.median("evaluation_share"),
        "evaluates_beside_training": any(run.evaluates_beside_training for run in result.runs),
        "settings": result.settings,
        "deviations": result.deviations,
        "broken": result.broken,
        "each_run": [_run_record(run) for run in result.runs],
    }


def _run_record(run: Run) -> dict[str, Any]:
    derived = ("converged", "samples", "end_to_end_images_per_s", "evaluation_share")
    last = run.evaluations[-1].mean_dice if run.evaluations else None
    # Every score of every run would be megabytes, and the logs have them.
    fields = asdict(run) | {"evaluations": run.evaluation_count, "last_mean_dice": last}
    return fields | {name: getattr(run, name) for name in derived}


def _median(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return statistics.median(told) if told else None
