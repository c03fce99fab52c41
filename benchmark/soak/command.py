"""``python -m benchmark soak``: training for minutes and steps, watched for what grows.

Both loaders in turn, half of the time each. Run it under ``nice`` where others need the machine.
"""

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmark.chaos.mounts import INSIDE, enter, small_disk
from benchmark.chaos.output import command_of, markdown, plain, write_result
from benchmark.chaos.phantoms import make_phantoms
from benchmark.record import Record
from benchmark.soak import text
from benchmark.soak.training import CASES, EDGE, Soak, soak
from preprocess.flags import positive
from runtime.loader_arguments import number

SHARED_MEMORY_BYTES = 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    add = parser.add_argument
    above = number(float, 0.0, above=True)
    add("--minutes", type=above, default=40.0, help="train at least so long (40)")
    add("--steps", type=positive, default=10_000, help="and at least so many steps (10000)")
    add("--every", type=above, default=4.0, metavar="SECONDS", help="between two looks (4)")
    add("--out", type=Path, help="folder for record.json and notes.md; default: a new one under results/")
    add(INSIDE, action="store_true", help=argparse.SUPPRESS)


def run(flags: argparse.Namespace) -> int:
    """Train, watch and record; 1 where something grows or a run does not end as it should.

    Raises:
        RunError: Training ended by itself.
        OSError: Something cannot be written.
    """
    no_mounts = "" if flags.inside_own_mounts else enter(flags.argv)
    work = Path(tempfile.mkdtemp(prefix="soak-"))
    soaks: list[Soak] = []
    try:
        make_phantoms(work / "data", CASES, EDGE)
        for loader in ("pytorch", "dali"):
            soaks.append(Soak(loader))
            with ExitStack() as stack:
                shared_memory = None
                if not no_mounts:
                    shared_memory = work / f"shm-{loader}"
                    shared_memory.mkdir()
                    stack.enter_context(small_disk(shared_memory, SHARED_MEMORY_BYTES))
                share = 60 * flags.minutes / 2, -(-flags.steps // 2)
                soak(soaks[-1], work, shared_memory, *share, flags.every, _say)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if soaks:
            _write(flags, soaks, no_mounts)
    return int(any(text.verdict(found) for found in soaks))


def _write(flags: argparse.Namespace, soaks: list[Soak], no_mounts: str) -> None:
    """Write record and notes, and print the table."""
    command = command_of(flags.argv)
    lines = text.table(soaks)
    record = Record(
        suite="soak",
        command=command,
        results={
            "heading": text.heading(soaks),
            "shared_memory": f"the machine's ({no_mounts})" if no_mounts else "of its own",
            "soaks": [text.values(found) for found in soaks],
        },
    )
    notes = text.NOTES.format(
        heading=text.heading(soaks),
        table=markdown(lines),
        command=" ".join(command),
        cases=CASES,
        edge=EDGE,
        every=flags.every,
        whose="the machine's, with what other programs have there" if no_mounts else "the run's own",
        series="\n".join(f"{found.loader:8} {text.spark(found.samples)}" for found in soaks if found.samples),
        points=text.MOST_POINTS,
    )
    folder = write_result(record, notes, flags.out)
    _say("\n".join(["", *plain(lines), text.heading(soaks), f"record: {folder}"]))


def _say(line: str) -> None:
    print(line, flush=True)
