"""``python -m benchmark gpu-check``: whether the kernels are right on this GPU, and how fast a step is with
them.

Everything runs in child processes, so that nothing takes the others along; each result is printed and
recorded as it comes, and when the time is up what is left is recorded as not run.
"""

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from benchmark.environment import ROOT, describe
from benchmark.gpu_check import summary
from benchmark.gpu_check.course import Course
from benchmark.gpu_check.journal import FAILED, WRONG, Journal
from benchmark.gpu_check.notes import folder_of, write_notes
from benchmark.gpu_check.plan import Plan
from benchmark.gpu_check.scale import scale_of
from benchmark.gpu_check.sections import SECTIONS
from benchmark.gpu_check.worker import Worker
from benchmark.sweep.grid import duration
from runtime.errors import RunError
from runtime.files import set_aside

WORK = ROOT / ".work"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    add = parser.add_argument
    add(
        "--dry_run", action="store_true",
        help="go through everything on the CPU, at tiny sizes and with the kernels interpreted: finds "
        "mistakes, measures nothing",
    )  # fmt: skip
    add("--budget", type=duration, default=540.0, metavar="9m", help="when to stop, with what there is")
    add("--data_dir", type=Path, help="preprocessed volumes for the runs with a loader that reads")
    add(
        "--out", type=Path,
        help="folder for record.json and notes.md; default: a new one under results/, or "
        ".work/gpu-check-dry-run",
    )  # fmt: skip
    add(
        "--sections", nargs="+", choices=[section.name for section in SECTIONS], metavar="SECTION",
        default=[section.name for section in SECTIONS],
        help=f"only these of {', '.join(section.name for section in SECTIONS)}",
    )  # fmt: skip


def run(flags: argparse.Namespace) -> int:
    """Check, and print the short table last; 1 where a kernel is wrong, or anything fails in a dry run.

    Raises:
        RunError: there is no GPU to check.
        OSError: the record cannot be written.
    """
    scale = scale_of(flags.dry_run)
    if not scale.dry and not torch.cuda.is_available():
        raise RunError(
            "gpu-check needs a CUDA device: --dry_run goes the same way on a CPU, and measures nothing"
        )
    environment = describe() | ({"gpus": []} if scale.dry else {})
    date = datetime.now(UTC).date().isoformat()
    folder = flags.out or (WORK / "gpu-check-dry-run" if scale.dry else folder_of(date, environment))
    scratch = folder / "logs" if flags.out or scale.dry else WORK / "gpu-check-logs"
    for made in (folder, scratch):
        made.mkdir(parents=True, exist_ok=True)
    set_aside(folder / "record.json")
    command = ["python", "-m", "benchmark", *flags.argv]
    journal = Journal(folder, scale.dry, command, environment, asdict(scale) | {"budget_s": flags.budget})
    chosen = [section for section in SECTIONS if section.name in flags.sections]
    course = Course(
        Plan(scale, flags.data_dir), journal, scratch, flags.budget, partial(Worker, dry=scale.dry)
    )
    journal.say(summary.versions(environment))
    complete = False
    try:
        course.run(chosen)
        complete = True
    finally:
        journal.write(complete)
        table = summary.table(journal, scale)
        write_notes(folder, table, scale.dry, complete)
        journal.say(f"record: {folder / 'record.json'}, what processes printed: {scratch}")
        for line in ["== summary", *table]:
            journal.say(line)
    failed = journal.count(FAILED) if scale.dry else journal.failed_in("exactness")
    return int(bool(journal.count(WRONG) + failed))
