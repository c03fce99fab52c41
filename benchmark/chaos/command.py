"""``python -m benchmark chaos``: faults at random moments of small training runs, resumed and compared.

Its processes and file systems are its own: see `benchmark.chaos.mounts`. Ctrl-C ends it at once, and what was
tried until then is recorded.
"""

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.chaos import table
from benchmark.chaos.campaign import Campaign
from benchmark.chaos.configurations import CASES, EDGE
from benchmark.chaos.cycle import Stage
from benchmark.chaos.deal import Plan, deal
from benchmark.chaos.faults import FAULTS
from benchmark.chaos.judgement import SURVIVED
from benchmark.chaos.mounts import INSIDE, enter
from benchmark.chaos.output import command_of, markdown, plain, write_result
from benchmark.chaos.phantoms import make_phantoms
from benchmark.chaos.references import References
from benchmark.record import Record
from preprocess.flags import positive
from runtime.loader_arguments import number

FAULTS_BY_DEFAULT = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=number(float, 0.0, above=True), help="begin no cycle after so many minutes"
    )
    length.add_argument("--faults", type=positive, help=f"how many to try ({FAULTS_BY_DEFAULT})")
    length.add_argument("--only", type=positive, metavar="N", help="cycle N of the campaign of --seed alone")
    add = parser.add_argument
    add("--seed", type=number(int, 0), default=1, help="of faults, moments and all else that is drawn (1)")
    add("--parallel", type=positive, default=1, help="cycles at a time (1)")
    add("--out", type=Path, help="folder for record.json and notes.md; default: a new one under results/")
    add(INSIDE, action="store_true", help=argparse.SUPPRESS)


def run(flags: argparse.Namespace) -> int:
    """Go through the campaign and record it; 1 where a cycle was not survived.

    Raises:
        RunError: A run fails without any fault, or there is no data to train on.
        OSError: Something cannot be written.
    """
    no_mounts = "" if flags.inside_own_mounts else enter(flags.argv)
    work = Path(tempfile.mkdtemp(prefix="chaos-"))
    interrupted = threading.Event()
    stage = Stage(work, work / "data", not no_mounts, interrupted)
    make_phantoms(stage.data, CASES, EDGE)
    references = References(work, stage.data, interrupted)
    campaign = Campaign(stage, references, flags.seed, flags.parallel, _say, no_mounts)
    faults = flags.faults or FAULTS_BY_DEFAULT

    def is_over(begun: int, seconds: float) -> bool:
        return seconds >= 60 * flags.minutes if flags.minutes else begun >= faults

    begin, complete = time.monotonic(), False
    try:
        campaign.run(_plans(flags.seed, flags.only), is_over)
        complete = True
    finally:
        minutes = (time.monotonic() - begin) / 60
        lines = _write(flags, campaign, minutes, complete)
        _say("\n".join(lines))
        if all(cycle["outcome"] == SURVIVED for cycle in campaign.cycles):
            shutil.rmtree(work, ignore_errors=True)
    return int(any(cycle["outcome"] != SURVIVED for cycle in campaign.cycles))


def _plans(seed: int, only: int | None) -> Iterator[Plan]:
    for plan in deal(seed):
        if only is None or plan.number == only:
            yield plan
        if plan.number == only:
            return


def _write(flags: argparse.Namespace, campaign: Campaign, minutes: float, complete: bool) -> list[str]:
    """Write record and notes; the table."""
    command = command_of(flags.argv)
    cycles = sorted(campaign.cycles, key=lambda cycle: cycle["number"])
    found = table.rows(cycles, [name for fault in FAULTS if (name := fault().name) not in campaign.skipped])
    results = {
        "seed": flags.seed,
        "minutes": round(minutes, 1),
        "complete": complete,
        "table": [dict(zip(table.COLUMNS, row, strict=True)) for row in found[1:]],
        "skipped": campaign.skipped,
        "cycles": cycles,
    }
    skipped = [f"{name}: skipped, {why}" for name, why in campaign.skipped.items()]
    notes = table.NOTES.format(
        heading=table.heading(cycles),
        table=markdown(found),
        command=" ".join(command),
        minutes=minutes,
        unfinished="" if complete else ", which was interrupted",
        skipped="".join(f"* {line}.\n" for line in skipped),
        seed=flags.seed,
    )
    folder = write_result(Record(suite="chaos", command=command, results=results), notes, flags.out)
    return ["", *plain(found), *skipped, table.heading(cycles), f"record: {folder}"]


def _say(text: str) -> None:
    print(text, flush=True)
