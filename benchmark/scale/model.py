"""Predictions from one measurement: without and with overlap, and from its interval's ends."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.scale.convergence import course, smallest_and_largest
from benchmark.scale.measured import Measured, StepTime
from benchmark.scale.network import Network
from benchmark.scale.prediction import Layout, Prediction, predict
from benchmark.scale.step_time import MLPERF_BATCH, Computing, Overlap, Reduction, computing
from pipelines.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is not measured."""

    network: Network
    gradient_dtype: str
    gpus_per_node: int
    ruleset: str
    case_s: float | None = None
    """Of an evaluation case on one GPU; None to estimate it."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """One layout."""

    layout: Layout
    remark: str
    """Where its samples to converge are from."""
    none: Prediction
    """Nothing of the all-reduce is hidden."""
    full: Prediction
    """All is hidden that fits behind the backward pass."""
    slowest: Prediction | None
    """With the measured interval's upper end and nothing hidden; None without an interval."""
    fastest: Prediction | None
    """With its lower end, and hidden what can be."""


class Model:
    """From a measurement.

    Raises:
        DataError: A measured step is shorter than its all-reduce would be.
    """

    def __init__(self, measured: Measured, settings: Settings) -> None:
        self.settings = settings
        steps = measured.steps
        self.largest_batch = max(MLPERF_BATCH, *steps)
        """Images per GPU that are known to fit, in NVIDIA's 80 GB or where they were measured."""
        self._none = self._of(_ends(steps, "value"), measured, Overlap.NONE)
        self._full = self._of(_ends(steps, "value"), measured, Overlap.FULL)
        self._slowest = self._fastest = None
        if all(time.low is not None and time.high is not None for time in steps.values()):
            self._slowest = self._of(_ends(steps, "high"), measured, Overlap.NONE)
            self._fastest = self._of(_ends(steps, "low"), measured, Overlap.FULL)

    def _of(
        self, seconds: Mapping[int, float], measured: Measured, overlap: Overlap
    ) -> tuple[Computing, Reduction]:
        """The GPUs' own time: what the all-reduce added where it was measured is taken out."""
        network = self.settings.network
        there = Reduction(network=network, gradient_dtype=measured.gradient_dtype, overlap=overlap)
        here = Reduction(network=network, gradient_dtype=self.settings.gradient_dtype, overlap=overlap)
        reducing = there.seconds(*_split(measured.ranks, self.settings.gpus_per_node))
        alone = {batch: there.without(step, reducing) for batch, step in seconds.items()}
        return computing(alone), here

    def predict(self, layout: Layout) -> Band:
        """Everything about a layout."""
        own_course = course(self.settings.ruleset, layout.global_batch)
        smallest, largest = smallest_and_largest(self.settings.ruleset)
        outside = f"outside of the reference points ({smallest} to {largest}): samples to converge unknown"

        def of(parts: tuple[Computing, Reduction]) -> Prediction:
            return predict(layout, *parts, own_course, self.settings.case_s)

        return Band(
            layout=layout,
            remark=own_course.remark if own_course else outside,
            none=of(self._none),
            full=of(self._full),
            slowest=of(self._slowest) if self._slowest else None,
            fastest=of(self._fastest) if self._fastest else None,
        )


def _ends(steps: Mapping[int, StepTime], end: str) -> dict[int, float]:
    return {batch: getattr(time, end) for batch, time in steps.items()}


def _split(ranks: int, gpus_per_node: int) -> tuple[int, int]:
    """Ranks of a node, and nodes."""
    if ranks <= gpus_per_node:
        return ranks, 1
    if ranks % gpus_per_node:
        raise DataError(
            f"--gpus_per_node {gpus_per_node} does not divide the {ranks} ranks that were measured: give the "
            "number of the nodes they ran on"
        )
    return gpus_per_node, ranks // gpus_per_node
