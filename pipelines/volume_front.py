"""Feeds the DALI graph with whole volumes that are resident on its device."""

import functools
from typing import Any

import torch

from pipelines import dali_loader as graphs
from pipelines.cases import Step
from pipelines.dali_loader import GraphConfig
from pipelines.device_volumes import DeviceVolumes, Resident
from pipelines.fronts import Drawn, Plan, Plans, arrays_of
from pipelines.samples import Samples
from pipelines.telemetry import SampleWatch


class VolumeFront:
    """The graph crops volumes that are resident on its device. See ``Front``."""

    steps_per_pipeline: int | None = None

    def __init__(self, samples: Samples, volumes: DeviceVolumes, *, seed: int, noise_in_graph: bool) -> None:
        self._samples, self._volumes = samples, volumes
        self._seed, self._noise_in_graph = seed, noise_in_graph
        self.description = volumes.description

    def plan(self, number: int, step: Step) -> Plan:
        """See ``Front``."""
        watch = SampleWatch()
        watch.reading()
        there = [self._samples.first_good(case, self._volumes.get) for case in step.cases]
        watch.read()

        def take(position: int, case: int) -> tuple[Resident, int, Drawn]:
            resident, bytes_read = self._volumes.get(case)
            return resident, bytes_read, self._samples.draw(step.epoch, position, case)

        # Again the first good one: the draw may have to search the label, in its file.
        taken = [
            self._samples.first_good(good.case, functools.partial(take, position))
            for good, position in zip(there, step.positions, strict=True)
        ]
        resident, read, drawn = zip(*(good.made for good in taken), strict=True)
        starts, draws, searched = arrays_of(drawn, self._samples, step, self._seed, self._noise_in_graph)
        images, labels = ([_for_dali(tensor) for tensor in column] for column in zip(*resident, strict=True))
        bytes_read = sum(good.made[1] for good in there) + sum(read) + searched
        met = tuple(first.met + second.met for first, second in zip(there, taken, strict=True))
        return Plan(draws, (watch.done(),), (images, labels), starts, bytes_read, met)

    def pipeline(self, config: GraphConfig, plans: Plans, steps: list[Step]) -> Any:
        """See ``Front``."""
        return graphs.volumes_pipeline(
            config, lambda i: plans(i).data, lambda i: plans(i).starts, lambda i: plans(i).draws
        )

    def close(self) -> None:
        """See ``Front``."""
        self._volumes.close()


def _for_dali(tensor: torch.Tensor) -> Any:
    """DALI takes tensors of torch as they are where there is a GPU: it asks for the current CUDA stream."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor
