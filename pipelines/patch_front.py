"""Feeds the DALI graph with patches from host memory."""

import functools
from typing import Any

import torch

from pipelines import dali_loader as graphs
from pipelines.augment import copy
from pipelines.cases import Step
from pipelines.dali_loader import GraphConfig
from pipelines.device_buffers import PageLock
from pipelines.draw import Augmentation
from pipelines.fronts import Plan, Plans
from pipelines.graph_draws import draws_of
from pipelines.samples import Samples
from pipelines.slots import make_ring
from pipelines.telemetry import SampleTimes, SampleWatch


class PatchFront:
    """Windows are copied into a ring of host slots, which the graph takes to its device. See ``Front``.

    Args:
        samples: Where windows come from.
        batch_size: Patches of a slot.
        slots: Of the ring; a slot is written again that many steps later.
        dtype: Of the images.
        seed: Of the run.
        page_lock: Let the device copy from the slots by itself.
        noise_in_graph: See ``Draws``.
    """

    steps_per_pipeline: int | None = None

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        slots: int,
        dtype: torch.dtype,
        seed: int,
        page_lock: bool,
        noise_in_graph: bool,
    ) -> None:
        self._samples, self._seed, self._noise_in_graph = samples, seed, noise_in_graph
        self._ring = make_ring(slots, batch_size, samples.patch_shape, shared=False, dtype=dtype)
        self._lock = PageLock(self._ring) if page_lock else None
        self.description = samples.description

    def plan(self, number: int, step: Step) -> Plan:
        """See ``Front``."""
        slot = number % len(self._ring.image)
        images, labels = list(self._ring.image[slot].numpy()), list(self._ring.label[slot].numpy())

        def fill(place: int, case: int) -> tuple[Augmentation, int, SampleTimes]:
            image, label = images[place][0], labels[place][0]
            watch = SampleWatch()
            window, augmentation, searched = self._samples.draw(step.epoch, step.positions[place], case)
            watch.reading()
            patch = self._samples.patch(case, window)
            watch.read()
            copy(patch.image, image)
            copy(patch.label, label)
            self._samples.check(case, label)
            self._samples.check_image(case, window, image)
            return augmentation, searched + patch.bytes_read, watch.done()

        filled = [
            self._samples.first_good(case, functools.partial(fill, place))
            for place, case in enumerate(step.cases)
        ]
        augmentations, bytes_read, times = zip(*(good.made for good in filled), strict=True)
        shape = self._samples.patch_shape
        draws = draws_of(augmentations, shape, self._seed, step, noise_in_graph=self._noise_in_graph)
        met = tuple(good.met for good in filled)
        return Plan(draws, times, (images, labels), bytes_read=sum(bytes_read), met=met)

    def pipeline(self, config: GraphConfig, plans: Plans, steps: list[Step]) -> Any:
        """See ``Front``."""
        return graphs.patches_pipeline(config, lambda i: plans(i).data, lambda i: plans(i).draws)

    def close(self) -> None:
        """See ``Front``."""
        if self._lock:
            self._lock.close()
