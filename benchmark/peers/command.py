"""``python -m benchmark peers``: other people's loaders beside ours, on the same volumes."""

import argparse
import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT
from benchmark.peers.comparison import METHOD, Outcome, compare, in_whole_batches
from benchmark.peers.contender import Settings
from benchmark.peers.contenders import CONTENDERS, REFERENCE
from benchmark.peers.mlperf_reference import find_reference
from benchmark.peers.table import best_of_ours, ratios, table
from benchmark.peers.window_pages import bounds, header
from benchmark.record import Record, write_record
from pipelines.errors import DataError
from preprocess.flags import positive
from preprocess.spec import EVALUATION_CASES_FILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument("--data_dir", type=Path, required=True, help="preprocessed cases (case_*_x.npy)")
    parser.add_argument(
        "--evaluation_cases", type=Path, default=EVALUATION_CASES_FILE, help="ids to leave out"
    )
    parser.add_argument(
        "--reference_dir",
        type=_reference,
        help="a checkout of github.com/mlcommons/training, or its retired_benchmarks/unet3d/pytorch",
    )
    parser.add_argument(
        "--cache_dir", type=Path, default=ROOT / ".work" / "peers", help="for converted volumes"
    )
    parser.add_argument("--patch", type=positive, default=128, help="edge of a patch, in voxels (128)")
    parser.add_argument("--batch_size", type=positive, default=2, help="patches in a batch (2)")
    parser.add_argument("--workers", type=positive, default=2, help="processes, or threads, of a loader (2)")
    parser.add_argument("--rounds", type=positive, default=5, help="how often each loader is timed (5)")
    parser.add_argument("--seconds", type=_duration, default=8.0, help="for which images are counted (8)")
    parser.add_argument("--warmup_s", type=_duration, default=4.0, help="seconds before that (4)")
    parser.add_argument(
        "--only", type=_names, default=list(CONTENDERS), help=f"some of {','.join(CONTENDERS)}"
    )
    parser.add_argument("--json", type=Path, help="also write the record here")


def run(flags: argparse.Namespace) -> int:
    """Measure and print; 1 where a contender failed.

    Raises:
        DataError: no folder of cases, no training case, fewer than a batch, or one smaller than a patch.
        OSError: the record cannot be written.
    """
    settings = Settings(
        data_dir=flags.data_dir.resolve(),
        evaluation_cases=flags.evaluation_cases.resolve(),
        reference_dir=flags.reference_dir,
        cache_dir=flags.cache_dir.resolve(),
        patch=flags.patch,
        batch_size=flags.batch_size,
        workers=flags.workers,
        warmup_s=flags.warmup_s,
        seconds=flags.seconds,
    )
    check(settings)
    outcomes = compare(flags.only, settings, flags.rounds)
    least = bounds(in_whole_batches(settings), settings.patch)
    print(table(outcomes, least))
    if flags.json:
        record = Record(
            suite="loaders-beside-peers",
            command=["python", "-m", "benchmark", *sys.argv[1:]],
            # Paths are in the command, as they were given; absolute ones say nothing to anybody else.
            config={
                name: value for name, value in asdict(settings).items() if not isinstance(value, Path | None)
            }
            | {"rounds": flags.rounds},
            results=results(outcomes, least, len(settings.cases())),
        )
        write_record(record, flags.json)
    return 1 if any(outcome.failure or outcome.notes for outcome in outcomes.values()) else 0


def check(settings: Settings) -> None:
    """Raise DataError if there is nothing to measure on."""
    cases = settings.cases()
    if len(cases) < settings.batch_size:
        raise DataError(
            f"{settings.data_dir} has {len(cases)} training cases, expected at least one batch of "
            f"{settings.batch_size}: preprocess more, or lower --batch_size"
        )
    for case in cases:
        if min(shape := header(case.image)[0]) < settings.patch:
            raise DataError(
                f"{case.image} has {shape} voxels, and a patch of {settings.patch}^3 does not fit: lower "
                "--patch"
            )


def results(outcomes: Mapping[str, Outcome], least: Mapping[str, float], cases: int) -> dict[str, Any]:
    """What a record holds: every number, and the ratios made of them."""
    best = best_of_ours(outcomes)
    contenders: dict[str, Any] = {}
    for name, outcome in outcomes.items():
        found = contenders[name] = asdict(outcome)
        if outcome.problem:
            continue
        found["median_images_per_s"] = statistics.median(outcome.images_per_s)
        for other in filter(None, (REFERENCE, best)):
            if other in outcomes and not outcomes[other].problem:
                of_medians, of_rounds = ratios(outcome.images_per_s, outcomes[other].images_per_s)
                found[f"ratio_to_{other}"] = {"of_medians": of_medians, "of_rounds": of_rounds}
    return {
        "method": METHOD,
        "cases": cases,
        "best_of_ours": best,
        "least_bytes_per_image": dict(least),
        "contenders": contenders,
    }


def _reference(text: str) -> Path:
    folder = find_reference(Path(text).resolve())
    if folder is None:
        raise argparse.ArgumentTypeError(
            f"no data_loading/pytorch_loader.py in {text}, expected a checkout of mlcommons/training"
        )
    return folder


def _duration(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return seconds


def _names(text: str) -> list[str]:
    wanted = text.split(",")
    if unknown := [name for name in wanted if name not in CONTENDERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(CONTENDERS)}")
    return [name for name in CONTENDERS if name in wanted]
