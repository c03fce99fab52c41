"""``python -m benchmark scale``: images/s and time to train on more machines, from one measured step."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmark.record import Record, write_record
from benchmark.scale import assumptions
from benchmark.scale.check import CHECK_ASSUMPTION, as_values, checked
from benchmark.scale.convergence import SAMPLE_RULESETS
from benchmark.scale.layouts import Row, rows
from benchmark.scale.measured import read_measured
from benchmark.scale.model import Model, Settings
from benchmark.scale.network import DGX_H100, GRADIENT_BYTES
from benchmark.scale.prediction import cases_of_busiest
from benchmark.scale.published import GPUS_PER_NODE, GRADIENT_DTYPE
from benchmark.scale.show import show_checks, show_rows, summary
from preprocess.flags import positive
from runtime.loader_arguments import number

_ABOVE_ZERO = number(float, 0.0, above=True)
_OF_PREDICTION = (
    "nodes", "gpus_per_node", "batch_size", "evaluation_nodes", "evaluation_seconds", "gradient_dtype",
    "inner_gb_per_s", "inner_us", "outer_gb_per_s", "outer_us",
)  # fmt: skip


def _nodes(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers of nodes, such as 1,2,9")
    return sorted(set(found))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--measured", type=Path, metavar="RECORD",
        help="record of a step: benchmark.json of main.py --benchmark, or of profile, gpu-check or step",
    )  # fmt: skip
    what.add_argument("--check", action="store_true", help="the model beside NVIDIA's published runs")
    add = parser.add_argument
    add("--nodes", type=_nodes, default=[1, 2, 9, 54, 96], metavar="N,N,...", help="machines: 1,2,9,54,96")
    add("--gpus_per_node", type=positive, default=GPUS_PER_NODE, help="GPUs of each: 8")
    add(
        "--batch_size", type=positive,
        help="images per GPU; default: 7 on one node and 1 on nine as published, elsewhere what the model "
        "finds fastest among those with a reference point",
    )  # fmt: skip
    add(
        "--evaluation_nodes", type=number(int, 0),
        help="nodes that only evaluate; default: none of one, two of nine as published, else the fastest",
    )  # fmt: skip
    add(
        "--evaluation_seconds", type=_ABOVE_ZERO, metavar="S",
        help="of one evaluation of 42 cases on the GPUs of one node; default: estimated from the step",
    )  # fmt: skip
    add(
        "--gradient_dtype", choices=GRADIENT_BYTES,
        help="in which ranks exchange gradients, main.py's --ddp_gradient_dtype; default: the record's",
    )  # fmt: skip
    add(
        "--inner_gb_per_s", type=_ABOVE_ZERO, metavar="GB/S",
        help="that a GPU sends to others of its node; default: 18 NVLinks of an H100, 370.8",
    )  # fmt: skip
    add(
        "--inner_us", type=_ABOVE_ZERO, metavar="US",
        help="of a hop within a node; default: NCCL's 3.4",
    )  # fmt: skip
    add(
        "--outer_gb_per_s", type=_ABOVE_ZERO, metavar="GB/S",
        help="that a GPU sends to other nodes; default: 400 Gb/s, 50",
    )  # fmt: skip
    add(
        "--outer_us", type=_ABOVE_ZERO, metavar="US",
        help="of a hop between nodes; default: NCCL's 14",
    )  # fmt: skip
    add(
        "--ruleset", default=SAMPLE_RULESETS[-1], choices=SAMPLE_RULESETS, help="whose reference points count"
    )
    add("--json", type=Path, help="file for the record")
    parser.set_defaults(parser=parser)


def run(flags: argparse.Namespace) -> int:
    """Predict, print, and write the record where ``--json`` is given.

    Raises:
        DataError, RunError, OSError: the record has no step time, or mlperf_logging is missing.
    """
    if flags.check:
        _refuse_others(flags)
    suite, results, config = _check(flags) if flags.check else _predict(flags)
    if flags.json:
        command = ["python", "-m", "benchmark", *flags.argv]
        write_record(Record(suite=suite, command=command, results=results, config=config), flags.json)
        print(f"record: {flags.json}")
    return 0


def _refuse_others(flags: argparse.Namespace) -> None:
    """Exit with one sentence where a flag would do nothing."""
    for name in _OF_PREDICTION:
        if getattr(flags, name) != flags.parser.get_default(name):
            flags.parser.error(f"--{name}: the check takes the published runs as they were; leave it out")


def _predict(flags: argparse.Namespace) -> tuple[str, dict[str, Any], dict[str, Any]]:
    measured = read_measured(flags.measured)
    settings = _settings(flags, measured.gradient_dtype)
    found = list(rows(Model(measured, settings), flags.nodes, flags.batch_size, flags.evaluation_nodes))
    said = [*assumptions.of_measurement(measured, str(flags.measured)), *assumptions.of_settings(settings)]
    print("predicted by a model, not measured")
    show_rows(found)
    _show(said)
    results = {"measured": asdict(measured), "rows": [_values(row) for row in found], "assumptions": said}
    return "scale", results, asdict(settings)


def _values(row: Row) -> dict[str, Any]:
    layout = row.band.layout if row.band else None
    derived = {"training_gpus": layout.training_gpus, "global_batch": layout.global_batch} if layout else {}
    return asdict(row) | derived


def _check(flags: argparse.Namespace) -> tuple[str, dict[str, Any], dict[str, Any]]:
    found = list(checked(flags.ruleset))
    settings = Settings(
        network=DGX_H100, gradient_dtype=GRADIENT_DTYPE, gpus_per_node=GPUS_PER_NODE, ruleset=flags.ruleset
    )
    said = [CHECK_ASSUMPTION, *assumptions.of_settings(settings)]
    show_checks(found)
    print(summary(found))
    _show(said)
    results = {"runs": [as_values(each) for each in found], "assumptions": said}
    return "scale-check", results, asdict(settings)


def _show(said: Sequence[str]) -> None:
    print("assumed:", *(f"  - {sentence}" for sentence in said), sep="\n")


def _settings(flags: argparse.Namespace, gradient_dtype: str) -> Settings:
    given = {
        "inner_bandwidth": flags.inner_gb_per_s and 1e9 * flags.inner_gb_per_s,
        "inner_latency": flags.inner_us and 1e-6 * flags.inner_us,
        "outer_bandwidth": flags.outer_gb_per_s and 1e9 * flags.outer_gb_per_s,
        "outer_latency": flags.outer_us and 1e-6 * flags.outer_us,
    }
    network = replace(DGX_H100, **{name: value for name, value in given.items() if value is not None})
    of_busiest = cases_of_busiest(flags.gpus_per_node)
    return Settings(
        network=network,
        gradient_dtype=flags.gradient_dtype or gradient_dtype,
        gpus_per_node=flags.gpus_per_node,
        ruleset=flags.ruleset,
        case_s=flags.evaluation_seconds and flags.evaluation_seconds / of_busiest,
    )
