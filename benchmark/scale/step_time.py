"""How long a step takes at another batch and on more GPUs than it was measured on."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from benchmark.scale import published
from benchmark.scale.network import GRADIENT_BYTES, Network, all_reduce_seconds, parameters
from pipelines.errors import DataError

BACKWARD = 2 / 3
"""Of a step's time without its all-reduce: a backward pass computes twice what a forward pass does."""

MLPERF_BATCH = 7
"""Images per GPU of NVIDIA's one-node submissions."""


class Overlap(StrEnum):
    """How much of the all-reduce is hidden behind the backward pass."""

    NONE = "none"
    FULL = "full"


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """The all-reduce of one step."""

    network: Network
    gradient_dtype: str
    overlap: Overlap

    def seconds(self, gpus_per_node: int, nodes: int) -> float:
        """Of all gradients, hidden or not."""
        size = parameters() * GRADIENT_BYTES[self.gradient_dtype]
        return all_reduce_seconds(size, gpus_per_node, nodes, self.network)

    def added(self, computing: float, reducing: float) -> float:
        """What ``reducing`` seconds add to a step that computes so long."""
        hidden = BACKWARD * computing if self.overlap is Overlap.FULL else 0.0
        return max(0.0, reducing - hidden)

    def without(self, step: float, reducing: float) -> float:
        """What a step of ``step`` seconds computes: the inverse of `added`.

        Raises:
            DataError: The step is shorter than its all-reduce would be.
        """
        if self.overlap is Overlap.FULL:
            hides = reducing <= BACKWARD * step
            computing = step if hides else (step - reducing) / (1 - BACKWARD)
        else:
            computing = step - reducing
        if computing <= 0:
            raise DataError(
                f"the measured step of {1000 * step:.3g} ms is shorter than the {1000 * reducing:.3g} ms "
                "that the model gives its all-reduce: correct --inner_gb_per_s and --outer_gb_per_s"
            )
        return computing


@dataclass(frozen=True)
class Computing:
    """Seconds of one GPU's step without an all-reduce: a part for each step, and one for each image."""

    measured: Mapping[int, float]
    """By images; at these, what was measured is taken."""
    per_step: float
    per_image: float

    def seconds(self, batch: int) -> float:
        """Of ``batch`` images."""
        return self.measured.get(batch, self.per_step + batch * self.per_image)

    def shared(self, group: int) -> float:
        """Of one image that ``group`` GPUs share, were sharing free."""
        return self.per_step + self.per_image / group


def computing(measured: Mapping[int, float]) -> Computing:
    """From measured seconds by batch: a line through those of the smallest and the largest batch; of a single
    batch, by the share that does not grow with the batch in published runs.

    A line below no seconds per step goes through zero and the largest batch; one that falls is level there.
    """
    small, large = min(measured), max(measured)
    if small == large:
        whole = measured[large] / (fixed_share() + (1 - fixed_share()) * large / MLPERF_BATCH)
        return Computing(measured, fixed_share() * whole, (1 - fixed_share()) * whole / MLPERF_BATCH)
    per_image = (measured[large] - measured[small]) / (large - small)
    per_image = min(max(per_image, 0.0), measured[large] / large)
    return Computing(measured, measured[large] - large * per_image, per_image)


def computing_of(run: published.PublishedRun) -> float:
    """Seconds of a step of a published run without its all-reduce."""
    nodes = run.nodes - run.evaluation_nodes
    images = run.gpus // run.group * run.batch
    reduction = Reduction(network=run.network, gradient_dtype=published.GRADIENT_DTYPE, overlap=Overlap.NONE)
    return reduction.without(images / run.images_per_s, reduction.seconds(published.GPUS_PER_NODE, nodes))


@cache
def fixed_share() -> float:
    """Part of a step of 7 images that does not grow with their number: from NVIDIA's H100 preview in v2.1, 7
    images per GPU on one node against 1 on three, the all-reduce taken out by the model."""
    seven, one = computing_of(published.H100_V21), computing_of(published.H100_V21_3)
    return 1 - (seven - one) / (MLPERF_BATCH - 1) * MLPERF_BATCH / seven


@cache
def spatial_seconds() -> float:
    """What sharing an image adds to a step, halos and statistics among it: from the 54 nodes of v3.0, where 4
    GPUs share one, beside the one node of the same round."""
    alone = computing({MLPERF_BATCH: computing_of(published.H100_V30)})
    return computing_of(published.H100_V30_54) - alone.shared(published.H100_V30_54.group)
