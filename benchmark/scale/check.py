"""The model beside NVIDIA's published runs: only their one-node step is given to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmark.scale import published as runs
from benchmark.scale.convergence import course, course_of
from benchmark.scale.prediction import Layout, Prediction, predict
from benchmark.scale.published import PublishedRun
from benchmark.scale.step_time import MLPERF_BATCH, Overlap, Reduction, computing, computing_of


@dataclass(frozen=True)
class Case:
    """A published run, and what it is predicted from."""

    run: PublishedRun
    one_node: PublishedRun
    """Whose step is the measured one."""
    taken: str = ""
    """Constants of the model that are taken from ``run``, which then checks nothing."""


CASES = (
    Case(runs.H100_V40, runs.H100_V40),
    Case(runs.H200_V40, runs.H200_V40),
    Case(runs.A100_V20, runs.A100_V20),
    Case(runs.H100_V40_9, runs.H100_V40),
    Case(runs.A100_V20_9, runs.A100_V20),
    Case(runs.H100_V31_96, runs.H100_V31),
    Case(runs.A100_V20_96, runs.A100_V20),
    Case(runs.H100_V21, runs.H100_V21, "seconds of an evaluation and of starting up"),
    Case(runs.H100_V21_3, runs.H100_V21, "the step's share that does not grow with the batch"),
    Case(
        runs.H100_V30_54,
        runs.H100_V30,
        "what sharing an image adds, and seconds of starting up and handing over weights",
    ),
)
"""Checks first, then what constants are taken from. No constant is taken from a check."""

CHECK_ASSUMPTION = (
    "given to the model: the images/s of one node of the same GPU and round, as if measured; nothing of the "
    f"all-reduce is hidden; A100: {runs.DGX_A100.inner_bandwidth / 1e9:.0f} and "
    f"{runs.DGX_A100.outer_bandwidth / 1e9:.0f} GB/s per GPU within a node and between nodes"
)


@dataclass(frozen=True)
class Checked:
    """A prediction beside what was published; errors are relative, positive where too much was predicted."""

    case: Case
    prediction: Prediction
    """With the samples of the reference points."""
    with_own_samples: Prediction
    """With those that the published runs took."""

    @property
    def rate_error(self) -> float | None:
        """None where the rate is what the prediction began with."""
        if self.case.run is self.case.one_node:
            return None
        return self.prediction.images_per_s / self.case.run.images_per_s - 1

    @property
    def minutes_error(self) -> float:
        """Convergence and time together."""
        return (self.prediction.minutes or 0.0) / self.case.run.minutes - 1

    @property
    def own_minutes_error(self) -> float:
        """Time alone."""
        return (self.with_own_samples.minutes or 0.0) / self.case.run.minutes - 1


def checked(ruleset: str) -> Iterator[Checked]:
    """All cases, nothing of the all-reduce hidden: see `published.GRADIENT_DTYPE`."""
    for case in CASES:
        run = case.run
        alone = computing({MLPERF_BATCH: computing_of(case.one_node)})
        reduction = Reduction(network=run.network, gradient_dtype=runs.GRADIENT_DTYPE, overlap=Overlap.NONE)
        layout = Layout(
            nodes=run.nodes,
            gpus_per_node=runs.GPUS_PER_NODE,
            evaluation_nodes=run.evaluation_nodes,
            batch=run.batch,
            group=run.group,
        )
        ours, own = course(ruleset, layout.global_batch), course_of(layout.global_batch, run.samples)
        yield Checked(case, *(predict(layout, alone, reduction, each, None) for each in (ours, own)))


def as_values(found: Checked) -> dict[str, Any]:
    """For a record."""
    run, one_node = found.case.run, found.case.one_node
    return {
        "name": run.name,
        "source": run.source,
        "one_node_source": one_node.source,
        "one_node_images_per_s": one_node.images_per_s,
        "counts": not found.case.taken,
        "taken_from_it": found.case.taken,
        "published": {"images_per_s": run.images_per_s, "minutes": run.minutes, "samples": run.samples},
        "predicted": vars(found.prediction),
        "predicted_with_own_samples": vars(found.with_own_samples),
        "errors": {
            "images_per_s": found.rate_error,
            "minutes": found.minutes_error,
            "minutes_with_own_samples": found.own_minutes_error,
        },
    }
