"""What feeds the DALI graph: where patches or volumes come from, and what was drawn for them.

A front plans steps in the planner's threads, and builds the graph that takes its plans.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from pipelines.bad_cases import Met
from pipelines.cases import Step
from pipelines.dali_loader import GraphConfig
from pipelines.draw import Augmentation, CropWindow
from pipelines.graph_draws import draws_of
from pipelines.samples import Samples
from pipelines.telemetry import SampleTimes


class Plan(NamedTuple):
    """A step, ready for the graph: for each input, one array for each sample."""

    draws: tuple[Any, ...]
    """As ``Draws`` has them."""
    times: tuple[SampleTimes, ...]
    """What it took to make it; none, where the graph reads the data."""
    data: tuple[Any, ...] = ()
    """Images and labels, where the front hands them over."""
    starts: tuple[Any, ...] = ()
    """First voxels of the crops, where the graph crops."""
    bytes_read: int = 0
    met: tuple[tuple[Met, ...], ...] = ()
    """For each sample, the bad cases that another one stands in for."""


Drawn = tuple[CropWindow, Augmentation, int]
"""As ``Samples.draw`` returns it."""

Plans = Callable[[int], Plan]
"""(number of the step) -> its plan, waited for."""


class Front(Protocol):
    """One way of feeding the graph."""

    description: str
    steps_per_pipeline: int | None
    """Steps after which the pipeline is built anew; None where it can go on for ever."""

    def plan(self, number: int, step: Step) -> Plan:
        """Make step number ``number`` of a pipeline ready; called in several threads."""
        ...

    def pipeline(self, config: GraphConfig, plans: Plans, steps: list[Step]) -> Any:
        """The graph, whose first iteration takes plan 0. ``steps``: the pipeline's, where it will end."""
        ...

    def close(self) -> None:
        """Give memory back."""
        ...


def arrays_of(
    drawn: Sequence[Drawn], samples: Samples, step: Step, seed: int, noise_in_graph: bool
) -> tuple[tuple[Any, ...], tuple[Any, ...], int]:
    """(starts, draws, bytes asked for) of a step whose volumes the graph crops, as ``Plan`` has them."""
    windows, augmentations, searched = zip(*drawn, strict=True)
    draws = draws_of(augmentations, samples.patch_shape, seed, step, noise_in_graph=noise_in_graph)
    starts = [np.array([0, *window.start], np.int32) for window in windows]
    return (starts,), draws, sum(searched)
