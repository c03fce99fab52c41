"""Predictions and checks for people: tables, and what was assumed under them."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.scale.check import Checked
from benchmark.scale.layouts import Row
from benchmark.scale.model import Band
from benchmark.scale.prediction import Layout

_WIDTH = 120
"""Columns of a table that is not on a terminal."""


def show_rows(rows: Sequence[Row]) -> None:
    """Rates, then times, a line for each layout; sentences under the tables."""
    bands = [row.band for row in rows if row.band]
    interval = any(band.slowest for band in bands)
    ends = ["with its interval"] if interval else []
    heads = ["nodes", "GPUs x batch", "global batch", "step ms", "all-reduce ms", "images/s", *ends]
    _table(heads, [_rate_cells(band)[: len(heads)] for band in bands])
    heads = ["nodes", "samples", "evaluations", "s each", "minutes", *ends]
    _table(heads, [_time_cells(band)[: len(heads)] for band in bands])
    if bands:
        print("Ranges: nothing of the all-reduce is hidden, or all that fits behind the backward pass.")
    if interval:
        print("With its interval: also with the ends of the measured step's 95 % interval.")
    for row in rows:
        name = f"{row.nodes} node{'s' if row.nodes > 1 else ''}"
        if row.band is None:
            print(f"{name}: {row.sentence}")
            continue
        for said in (row.sentence, row.band.remark, _waits(row.band)):
            if said:
                print(f"{name}: {said}")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for position, head in enumerate(heads):
        table.add_column(head, justify="right" if position else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    _console().print(table)


def _nodes(layout: Layout) -> str:
    beside = f" = {layout.training_nodes} + {layout.evaluation_nodes}" if layout.evaluation_nodes else ""
    return f"{layout.nodes}{beside}"


def _rate_cells(band: Band) -> list[str]:
    layout, none, full = band.layout, band.none, band.full
    return [
        _nodes(layout),
        f"{layout.training_gpus} x {layout.batch}",
        str(layout.global_batch),
        _range(1000 * full.step_s, 1000 * none.step_s),
        number(1000 * none.reduce_s),
        _range(none.images_per_s, full.images_per_s),
        _ends(band, "images_per_s"),
    ]


def _time_cells(band: Band) -> list[str]:
    none = band.none
    return [
        _nodes(band.layout),
        "-" if none.samples is None else f"{none.samples:.0f}",
        "-" if none.evaluations is None else f"{none.evaluations:.1f}",
        number(none.evaluation_s),
        _range(band.full.minutes, none.minutes),
        _ends(band, "minutes"),
    ]


def _waits(band: Band) -> str:
    if not band.none.waits:
        return ""
    return f"training waits for evaluations of {number(band.none.evaluation_s)} s: more --evaluation_nodes"


def _ends(band: Band, name: str) -> str:
    if band.slowest is None or band.fastest is None:
        return "-"
    ends = getattr(band.slowest, name), getattr(band.fastest, name)
    return "-" if None in ends else "[{}, {}]".format(*map(number, sorted(ends)))


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "-"
    first, last = number(low), number(high)
    return first if first == last else f"{first} to {last}"


def number(value: float) -> str:
    """Four digits, three below one."""
    return f"{value:.0f}" if value >= 1000 else f"{value:#.{4 if value >= 1 else 3}g}"


def show_checks(found: Sequence[Checked]) -> None:
    """Predictions beside published figures, errors in percent."""
    heads = ["published run", "images/s", "predicted", "error", "minutes", "predicted", "error"]
    heads += ["own samples", "error"]
    _table(heads, [_check_cells(each) for each in found])
    print("own samples: minutes with the samples that these runs took, in place of the reference points'.")
    for each in found:
        if each.case.taken:
            print(
                f"* {each.case.run.name} ({each.case.run.source}) checks nothing, for it gave the model "
                f"{each.case.taken}"
            )


def _check_cells(found: Checked) -> list[str]:
    run, predicted = found.case.run, found.prediction
    rate = [number(predicted.images_per_s), _percent(found.rate_error)]
    return [
        f"{run.name} ({run.source.split()[0]}){' *' if found.case.taken else ''}",
        number(run.images_per_s),
        *(["given", ""] if found.rate_error is None else rate),
        number(run.minutes),
        number(predicted.minutes or 0.0),
        _percent(found.minutes_error),
        number(found.with_own_samples.minutes or 0.0),
        _percent(found.own_minutes_error),
    ]


def summary(found: Sequence[Checked]) -> str:
    """The largest errors of what counts."""
    counted = [each for each in found if not each.case.taken]
    rates = [each.rate_error for each in counted if each.rate_error is not None]
    minutes, own = (
        [getattr(each, name) for each in counted] for name in ("minutes_error", "own_minutes_error")
    )
    return "; ".join(
        f"{what} {_percent(min(errors))} to {_percent(max(errors))}"
        for what, errors in (("errors: images/s", rates), ("minutes", minutes), ("with own samples", own))
    )


def _percent(error: float | None) -> str:
    return "" if error is None else f"{100 * error:+.1f} %"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)
