"""The page as a whole: one HTML file that needs no other."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

from benchmark.page.digits import unit
from benchmark.page.figures import breakdown, ready, roofline, trace, waits, workers
from benchmark.page.figures.accelerators import comparable
from benchmark.page.gather import gather
from benchmark.page.headline import headline
from benchmark.page.markup import Markup, element, escaped, together
from benchmark.page.metrics import metrics_table
from benchmark.page.profiles import Gathered
from benchmark.page.svg import Plot, figure
from benchmark.page.tables import (
    anchors_table,
    environment_table,
    points_table,
    ranks_table,
    rates_table,
    setup_table,
)
from benchmark.record import Record

_HERE = Path(__file__).parent

_METHOD = (
    "Loader alone, training step alone (on batches that are already on the device) and both together are "
    "timed in turns, forwards and backwards, so that a machine that drifts meets all of them alike. The "
    "first steps of a window are discarded as warm-up; the clock is monotonic, and the device is waited for "
    "only at the edges of a window. A rate is images divided by seconds over all windows, never a mean of "
    "rates. Intervals hold 95 %: Student's, on the logarithmic scale, with a variance that allows for steps "
    "that depend on their neighbours through the queue, and for windows that differ. Outliers are counted "
    "and kept."
)


def write(records: Sequence[tuple[Path | str, Record]], path: Path) -> None:
    """Write the page of ``records``, whole or not at all; see ``command.write_page``."""
    text = page(gather(records))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def page(gathered: Gathered) -> str:
    """The HTML."""
    template = Template((_HERE / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escaped(_title(gathered)),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        headline=headline(gathered),
        figures=together(figure(plot) for plot in _plots(gathered)),
        tables=_tables(gathered),
        method=element("p", _METHOD),
        commands=together(element("pre", command) for command in _commands(gathered)),
    )


def _title(gathered: Gathered) -> str:
    if not gathered.profiles:
        return "voxelrate: nothing measured"
    best = gathered.fastest[0]
    rate = unit(best.rate("both").value, "images/s")
    return f"voxelrate: {best.findings.child('verdict').text('name')}, {rate}"


def _plots(gathered: Gathered) -> list[Plot]:
    """Those of points take all of them, the fastest first; those that draw single steps, a few."""
    everything, few = gathered.fastest, gathered.shown
    some = [waits.plot(few), ready.plot(few), trace.plot(few)]
    if len(few) < len(everything):
        chosen = f" {len(few)} of {len(everything)}, from the fastest to the slowest, are shown."
        some = [replace(plot, caption=plot.caption + chosen) for plot in some]
    of_waits, of_queue, of_steps = some
    return [
        breakdown.plot(everything),
        of_waits,
        workers.plot(everything),
        roofline.plot(everything),
        of_queue,
        of_steps,
    ]


def _tables(gathered: Gathered) -> Markup:
    shown = gathered.shown
    parts = []
    if shown:
        parts += [rates_table(shown), metrics_table(shown)]
        parts += [found for profile in shown if (found := ranks_table(profile))]
        parts.append(setup_table(shown))
    if not gathered.alone or gathered.failures:
        parts.append(points_table(gathered))
    if gathered.profiles and comparable(gathered.profiles):
        parts.append(anchors_table())
    return together([*parts, environment_table(gathered)])


def _commands(gathered: Gathered) -> list[str]:
    """Each command once, ready for a shell."""
    return list(dict.fromkeys(shlex.join(map(str, record.command)) for _, record in gathered.records))
