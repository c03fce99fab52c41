"""Who trains, who evaluates and at which batch: as published, or what the model finds fastest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.scale import published
from benchmark.scale.convergence import smallest_and_largest
from benchmark.scale.model import Band, Model
from benchmark.scale.prediction import Layout
from pipelines.errors import DataError
from preprocess.spec import TRAIN_SAMPLES

SPATIAL = "not possible with voxelrate: needs spatial parallelism"


@dataclass(frozen=True)
class Row:
    """What is said about a number of nodes."""

    nodes: int
    band: Band | None
    sentence: str = ""
    """Why there is no band, or what its layout is."""


def rows(
    model: Model, nodes: Sequence[int], batch: int | None, evaluation_nodes: int | None
) -> Iterator[Row]:
    """One for each of ``nodes``; and after the first that cannot be, the largest layout that can.

    Args:
        model: Of a measurement.
        nodes: Machines.
        batch: Images per GPU; None: as published, or the fastest.
        evaluation_nodes: That only evaluate; None: likewise.

    Raises:
        DataError: Nobody would be left to train.
    """
    limit_shown = False
    for number in nodes:
        if evaluation_nodes is not None and evaluation_nodes >= number:
            raise DataError(
                f"--evaluation_nodes {evaluation_nodes} of {number} nodes leaves none to train: lower it, or "
                f"leave {number} out of --nodes"
            )
        layout = _layout(model, number, batch, evaluation_nodes)
        if layout:
            yield Row(number, model.predict(layout))
            continue
        yield Row(number, None, _impossible(model, number, batch))
        if batch is None and not limit_shown and (limit := _limit(model)):
            limit_shown = True
            yield Row(limit.nodes, model.predict(limit), "the data-parallel limit")


def _layout(model: Model, nodes: int, batch: int | None, evaluation_nodes: int | None) -> Layout | None:
    gpus = model.settings.gpus_per_node
    if batch is None and evaluation_nodes is None and gpus == published.GPUS_PER_NODE:
        for run in (published.H100_V40, published.H100_V40_9):
            if run.nodes == nodes:
                return Layout(
                    nodes=nodes, gpus_per_node=gpus, evaluation_nodes=run.evaluation_nodes, batch=run.batch
                )
    evaluators = range(nodes // 2 + 1) if evaluation_nodes is None else [evaluation_nodes]
    batches = range(1, model.largest_batch + 1) if batch is None else [batch]
    possible = [
        Layout(nodes=nodes, gpus_per_node=gpus, evaluation_nodes=some, batch=images)
        for some in evaluators
        for images in batches
    ]
    _, largest = smallest_and_largest(model.settings.ruleset)
    with_time = [layout for layout in possible if layout.global_batch <= largest]
    if with_time:
        return min(with_time, key=lambda layout: model.predict(layout).none.minutes or 0.0)
    if batch is not None and possible[0].global_batch <= TRAIN_SAMPLES:
        return possible[0]
    return None


def _impossible(model: Model, nodes: int, batch: int | None) -> str:
    _, largest = smallest_and_largest(model.settings.ruleset)
    gpus = nodes * model.settings.gpus_per_node
    if batch is not None:
        return (
            f"not possible: {gpus} GPUs at --batch_size {batch} want more than the {TRAIN_SAMPLES} volumes "
            "of an epoch in one step"
        )
    return (
        f"{SPATIAL}; without it at most {largest} of {gpus} GPUs can train, since the reference points end "
        f"at global batch {largest} (in NVIDIA's submissions {_shared()} GPUs share an image)"
    )


def _shared() -> str:
    runs = published.H100_V30_54, published.H100_V31_96
    return " and ".join(f"{run.group} (on {run.nodes} nodes)" for run in runs)


def _limit(model: Model) -> Layout | None:
    """As many whole nodes as can train at one image per GPU, and beside them the fewest nodes whose
    evaluations do not make training wait."""
    gpus = model.settings.gpus_per_node
    _, largest = smallest_and_largest(model.settings.ruleset)
    training = largest // gpus
    if training == 0:
        return None
    for evaluators in range(1, training + 1):
        layout = Layout(nodes=training + evaluators, gpus_per_node=gpus, evaluation_nodes=evaluators, batch=1)
        if not model.predict(layout).none.waits:
            break
    return layout
