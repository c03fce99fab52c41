"""Results for people: a table on a terminal, aligned plain text elsewhere, and remarks under it."""

import statistics
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from benchmark.mllog.figures import Run
from benchmark.mllog.result import Result
from benchmark.mllog.score import DROPPED
from preprocess.untrusted import printable

HEAD: tuple[str, ...] = (
    "result",
    "runs",
    "GPUs",
    "batch",
    "images/s",
    "/GPU",
    "end to end",
    "/GPU",
    "evals",
    "share",
    "samples",
    "minutes",
)
LEGEND = (
    "runs: converged/all. images/s: of training. end to end: samples / (run_stop - run_start). share: of the "
    "time, for evaluations. Of a result: medians over runs; samples and minutes as MLPerf averages them."
)


def show(results: Sequence[Result], each_run: bool) -> None:
    """Print a line for each; and for each run, with ``each_run`` or where runs are too few for a mean."""
    rows = []
    for result in results:
        rows.append(_result_row(result))
        if each_run or len(result.runs) <= 2 * DROPPED:
            rows += [_run_row(result, run) for run in result.runs]
    # Folders and files may be called anything.
    rows = [tuple(map(printable, row)) for row in rows]
    console = Console()
    if console.is_terminal:
        numbers = (Column(name, justify="right", no_wrap=True) for name in HEAD[1:])
        table = Table(Column(HEAD[0], overflow="fold"), *numbers, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
    else:
        print(_plain([HEAD, *rows]))
    print(LEGEND)
    for result in results:
        print(f"\n{printable(result.label)}")
        for remark in remarks(result):
            print(f"  - {printable(remark)}")


def remarks(result: Result) -> Iterator[str]:
    """What the numbers mean, and each deviation from the rules."""
    for estimator in result.estimators:
        yield f"images/s: {estimator}{'; then over runs' if len(result.runs) > 1 else ''}"
    if result.accelerators.count is None:
        yield f"the number of GPUs is unknown: {result.accelerators.source}"
    else:
        yield f"number of GPUs: from {result.accelerators.source}"
    if any(run.evaluates_beside_training for run in result.runs):
        yield "evaluations run beside training, on GPUs of their own, which count like the others"
    if any(run.counts_samples is False for run in result.runs):
        yield "epoch_num counts epochs, as in rounds v1.0 to v3.0; from v3.1 on it has to count samples"
    yield from _time(result)
    for sentence, files in result.deviations.items():
        yield f"deviates: {sentence}{_which(files, result)}"


def _time(result: Result) -> Iterator[str]:
    minutes = [run.minutes for run in result.converged]
    runs = len(result.runs) + len(result.broken)
    if result.score_minutes is None:
        yield (
            f"no official time to train: it is a mean without the {DROPPED} fastest and {DROPPED} slowest "
            f"runs, at most {DROPPED} of them unconverged; {len(minutes)} of {runs} converged here"
        )
    elif result.scaling_factor:
        factor = result.scaling_factor
        published = result.score_minutes * factor
        yield f"published: {published:.2f} minutes, by the factor {factor:.4f} of scaling.json"
    if minutes:
        median = statistics.median(minutes)
        yield f"converged runs take {min(minutes):.2f} to {max(minutes):.2f} minutes, median {median:.2f}"


def _which(files: Sequence[str], result: Result) -> str:
    if not files:
        return ""
    if len(files) == len(result.runs):
        return " (all runs)" if len(files) > 1 else ""
    return f" ({', '.join(files)})" if len(files) <= 3 else f" ({len(files)} of {len(result.runs)} runs)"


def _result_row(result: Result) -> tuple[str, ...]:
    training, end_to_end = result.median("images_per_s"), result.median("end_to_end_images_per_s")
    return (
        result.label,
        f"{len(result.converged)}/{len(result.runs) + len(result.broken)}",
        _number(result.accelerators.count, 0),
        _number(result.median("global_batch_size"), 0),
        *_rates(result, training, end_to_end),
        _number(result.median("evaluation_count"), 0),
        _share(result.median("evaluation_share")),
        _number(result.samples_to_converge, 0),
        _number(result.score_minutes, 2),
    )


def _run_row(result: Result, run: Run) -> tuple[str, ...]:
    return (
        f"  {run.file}",
        "yes" if run.converged else ("below target" if run.status == "success" else run.status),
        "",
        _number(run.global_batch_size, 0),
        *_rates(result, run.images_per_s, run.end_to_end_images_per_s),
        str(run.evaluation_count),
        _share(run.evaluation_share),
        _number(run.samples, 0),
        _number(run.minutes, 2),
    )


def _rates(result: Result, training: float | None, end_to_end: float | None) -> tuple[str, ...]:
    rates = (training, result.each(training), end_to_end, result.each(end_to_end))
    return tuple(_number(rate, 1) for rate in rates)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _plain(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        for row in rows
    )
    return "\n".join("  ".join(line) for line in lines)
