"""What a prediction assumes, a sentence each, with its source."""

from collections.abc import Iterator

from benchmark.scale import published
from benchmark.scale.measured import Measured
from benchmark.scale.model import Settings
from benchmark.scale.network import DGX_H100, GRADIENT_BYTES, Network, parameters
from benchmark.scale.step_time import BACKWARD, MLPERF_BATCH, fixed_share
from runtime.rcp import load_rcps

_RUNS_WITHIN = 0.9


def of_measurement(measured: Measured, path: str) -> Iterator[str]:
    """What was measured, and what is made of it at other batches."""
    ranks = f"{measured.ranks} rank{'s' if measured.ranks > 1 else ''}"
    for batch, step in sorted(measured.steps.items()):
        interval = (
            "" if step.low is None or step.high is None else f" [{1e3 * step.low:.4g}, {1e3 * step.high:.4g}]"
        )
        yield f"measured: {1e3 * step.value:.4g}{interval} ms for {batch} images per rank, {ranks} ({path})"
    yield from (f"measured: {remark}" for remark in measured.remarks)
    if len(measured.steps) > 1:
        yield "other batches: on the line through the smallest and the largest batch measured"
    else:
        seven, one = published.H100_V21, published.H100_V21_3
        yield (
            f"other batches: {100 * fixed_share():.1f} % of a step of {MLPERF_BATCH} images does not "
            f"grow with their number, as between {MLPERF_BATCH} and 1 per GPU in NVIDIA's v2.1 "
            f"({seven.images_per_s / seven.gpus:.1f} and {one.images_per_s / one.gpus:.1f} images/s per GPU)"
        )


def of_settings(settings: Settings) -> Iterator[str]:
    """What is not measured."""
    size = parameters() * GRADIENT_BYTES[settings.gradient_dtype]
    yield (
        f"gradients: {parameters()} parameters in {settings.gradient_dtype}, {size / 1e6:.1f} MB; a ring "
        "within a node, and a ring or a tree, whichever is faster, between nodes"
    )
    yield from _network(settings.network)
    yield f"at most the backward pass, {BACKWARD:.2f} of a step's computing, hides the all-reduce"
    yield from _convergence(settings)
    yield from _evaluation(settings)
    yield (
        f"starting up: {published.V21_STARTUP_S:.1f} s on one node and {published.V30_54_STARTUP_S:.1f} s on "
        "42 that train, as in NVIDIA's v2.1 and v3.0; else a constant and a part that is divided by the nodes"
    )
    yield (
        "not in the model: ranks that wait for the slowest, other traffic, storage or a host that feeds more "
        "GPUs worse than those measured, memory that a larger batch needs"
    )


def _network(network: Network) -> Iterator[str]:
    inner = network.inner_bandwidth, network.inner_latency
    source = "18 NVLinks; NCCL's topo.h and tuning.cc"
    yield "within a node " + _link(
        *inner, source, inner == (DGX_H100.inner_bandwidth, DGX_H100.inner_latency)
    )
    outer = network.outer_bandwidth, network.outer_latency
    source = "400 Gb/s as in a DGX H100; NCCL's tuning.cc"
    yield "between nodes " + _link(
        *outer, source, outer == (DGX_H100.outer_bandwidth, DGX_H100.outer_latency)
    )


def _link(bandwidth: float, latency: float, source: str, default: bool) -> str:
    return (
        f"{bandwidth / 1e9:.4g} GB/s per GPU, {1e6 * latency:.3g} us a hop ({source if default else 'given'})"
    )


def _convergence(settings: Settings) -> Iterator[str]:
    points = load_rcps(settings.ruleset)
    of_node = next(point for point in points if point.batch_size == 56)
    cut = round((1 - _RUNS_WITHIN) / 2 * len(of_node.runs))
    low, high = of_node.runs[cut], of_node.runs[-1 - cut]
    yield (
        f"samples to converge: means of the reference points of ruleset {settings.ruleset}, in between on "
        "the line of those that MLPerf's checker keeps; the official score is a mean, too"
    )
    yield (
        f"single runs spread: at global batch 56, {100 * _RUNS_WITHIN:.0f} % of the reference's took "
        f"{low:.0f} to {high:.0f} samples, on average {of_node.mean:.0f}"
    )


def _evaluation(settings: Settings) -> Iterator[str]:
    seconds = (
        f"takes as long as training {published.EVALUATION_IMAGES:.0f} images on the same 8 GPUs "
        f"({published.V21_EVALUATION_S} s at {published.H100_V21.images_per_s} images/s in NVIDIA's v2.1), "
        "an estimate that --evaluation_seconds replaces"
        if settings.case_s is None
        else f"takes {settings.case_s:.3g} s for each case of the busiest GPU (given)"
    )
    yield f"an evaluation {seconds}, whole cases on each GPU; at MLPerf's schedule"
    yield (
        f"beside training it adds {1000 * published.V30_54_HANDOVER_S:.0f} ms for the hand-over of weights "
        "(NVIDIA's 54 nodes of v3.0), and the last one whole"
    )
