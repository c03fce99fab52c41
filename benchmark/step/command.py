"""``python -m benchmark step``: a training step's time, launches and memory beside the MLPerf reference's."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmark.peers.mlperf_step import ReferenceStep, reference_folder
from benchmark.record import Record, write_record
from benchmark.step.contenders import CONTENDERS, Task
from benchmark.step.counting import (
    COUNT_METHOD,
    MEMORY_METHOD,
    count_claims,
    count_findings,
    memory_claims,
    memory_findings,
)
from benchmark.step.fake_step import Shape
from benchmark.step.text import lines
from benchmark.step.timing import time_claims, time_findings
from benchmark.step.turns import METHOD, Course, measure
from model.unet3d import MLPERF_FILTERS
from preprocess.flags import positive
from runtime.loader_arguments import number

WHAT = ("time", "counts", "memory")
COUNTED_BATCH = 7
"""Images in the batch whose launches are counted; no launch depends on it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    add = parser.add_argument
    add(
        "--reference_dir", type=reference_folder, required=True,
        help="a checkout of github.com/mlcommons/training, or its retired_benchmarks/unet3d/pytorch",
    )  # fmt: skip
    add("--what", nargs="+", choices=WHAT, default=list(WHAT), help="what to measure (all)")
    add("--patch", type=positive, default=64, help="edge of a patch of the timed steps, in voxels (64)")
    add("--batch_size", type=positive, nargs="+", default=[1, 2], help="of the timed steps (1 2)")
    add(
        "--fake_patch", type=positive, default=128,
        help="the same for counts and memory, whose tensors have no numbers (128)",
    )  # fmt: skip
    add("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="contenders to time (all)")
    add(
        "--rounds",
        type=positive,
        default=6,
        help="fresh processes of each; from 6 on there are intervals (6)",
    )
    add("--steps", type=positive, default=4, help="timed steps of each process (4)")
    add("--warmup", type=positive, default=2, help="its steps before those (2)")
    add("--learning_rate", type=number(float, 0.0), default=0.01, help="of the timed steps (0.01)")
    add("--seed", type=number(int, 0, 2**63 - 1), default=0, help="of weights and batches (0)")
    add(
        "--filters", type=positive, nargs="+", default=list(MLPERF_FILTERS),
        help="channels per level; anything but the default is not MLPerf's network",
    )  # fmt: skip
    add("--out", type=Path, help="folder for record.json")
    parser.set_defaults(parser=parser)


def run(flags: argparse.Namespace) -> int:
    """Measure, print, and write the record where ``--out`` is given; 1 where contenders' losses differ.

    Raises:
        DataError: A contender cannot run; the message says why.
        OSError: The checkout lacks a file, or the record cannot be written.
    """
    _check(flags.parser, flags)
    reference = ReferenceStep(flags.reference_dir)
    filters, fake = tuple(flags.filters), Shape(filters=flags.filters, patch=flags.fake_patch, batch_size=1)
    results: dict[str, Any] = dict.fromkeys(WHAT)
    claims = []
    # First what takes seconds.
    if "counts" in flags.what:
        found = count_findings(reference, replace(fake, batch_size=COUNTED_BATCH))
        results["counts"] = {
            "method": COUNT_METHOD,
            "patch": fake.patch,
            "batch_size": COUNTED_BATCH,
            **found,
        }
        claims += count_claims(found)
    if "memory" in flags.what:
        found = memory_findings(reference, fake)
        results["memory"] = {"method": MEMORY_METHOD, "patch": fake.patch, **found}
        claims += memory_claims(found)
    if "time" in flags.what:
        batches = [_timed(flags, filters, size) for size in flags.batch_size]
        results["time"] = {"method": METHOD, "threads": torch.get_num_threads(), "batches": batches}
        claims = time_claims(batches) + claims
    results["claims"] = claims
    print(*lines(results), sep="\n", flush=True)
    if flags.out:
        write_record(_record(flags, results), flags.out / "record.json")
        print(f"record: {flags.out / 'record.json'}", flush=True)
    agree = all(batch["agreement"]["agree"] for batch in (results["time"] or {}).get("batches", ()))
    return 0 if agree else 1


def _timed(flags: argparse.Namespace, filters: tuple[int, ...], batch_size: int) -> dict[str, Any]:
    task = Task(
        reference_dir=flags.reference_dir,
        filters=filters,
        patch=flags.patch,
        batch_size=batch_size,
        learning_rate=flags.learning_rate,
        seed=flags.seed,
    )
    course = Course(rounds=flags.rounds, warmup=flags.warmup, steps=flags.steps)
    return time_findings(measure(_in_order(flags.only), task, course, _say), course, batch_size)


def _in_order(names: list[str]) -> list[str]:
    return [name for name in CONTENDERS if name in names]


def _record(flags: argparse.Namespace, results: dict[str, Any]) -> Record:
    config = {
        name: getattr(flags, name)
        for name in ("patch", "rounds", "steps", "warmup", "learning_rate", "seed", "filters")
    }
    return Record(
        suite="step", command=["python", "-m", "benchmark", *flags.argv], config=config, results=results
    )


def _check(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Exit with one sentence where a patch does not fit the network."""
    factor = 2 ** len(flags.filters)
    for flag in ("patch", "fake_patch"):
        if (edge := getattr(flags, flag)) % factor or edge == factor:
            parser.error(
                f"--{flag}: the {len(flags.filters)} levels of --filters halve it as often and must leave "
                f"more than a voxel: expected a multiple of {factor} from {2 * factor} on, found {edge}"
            )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
