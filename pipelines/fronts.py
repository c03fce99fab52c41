"""What feeds the DALI graph: where patches or volumes come from, and what was drawn for them.

A front plans steps in the planner's threads, and builds the graph that takes its plans.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from pipelines import dali_loader as graphs
from pipelines.augment import copy
from pipelines.cases import Step
from pipelines.dali_loader import GraphConfig
from pipelines.device_buffers import PageLock
from pipelines.device_volumes import DeviceVolumes
from pipelines.draw import CropWindow
from pipelines.errors import DataError
from pipelines.graph_draws import draws_of
from pipelines.samples import Samples
from pipelines.slots import make_ring
from pipelines.telemetry import SampleTimes, SampleWatch
from pipelines.volumes import FileVolumes


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


class PatchFront:
    """Windows are copied into a ring of host slots, which the graph takes to its device.

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
        augmentations, bytes_read, times = [], 0, []
        for image, label, position, case in zip(images, labels, step.positions, step.cases, strict=True):
            watch = SampleWatch()
            window, augmentation, searched = self._samples.draw(step.epoch, position, case)
            watch.reading()
            patch = self._samples.patch(case, window)
            watch.read()
            copy(patch.image, image[0])
            copy(patch.label, label[0])
            self._samples.check(case, label)
            times.append(watch.done())
            augmentations.append(augmentation)
            bytes_read += searched + patch.bytes_read
        shape = self._samples.patch_shape
        draws = draws_of(augmentations, shape, self._seed, step, noise_in_graph=self._noise_in_graph)
        return Plan(draws, tuple(times), (images, labels), bytes_read=bytes_read)

    def pipeline(self, config: GraphConfig, plans: Plans, steps: list[Step]) -> Any:
        """See ``Front``."""
        return graphs.patches_pipeline(config, lambda i: plans(i).data, lambda i: plans(i).draws)

    def close(self) -> None:
        """See ``Front``."""
        if self._lock:
            self._lock.close()


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
        resident, read = zip(*(self._volumes.get(case) for case in step.cases), strict=True)
        watch.read()
        windows, draws, searched = _drawn(self._samples, step, self._seed, self._noise_in_graph)
        images, labels = ([_for_dali(tensor) for tensor in column] for column in zip(*resident, strict=True))
        return Plan(draws, (watch.done(),), (images, labels), _starts(windows), sum(read) + searched)

    def pipeline(self, config: GraphConfig, plans: Plans, steps: list[Step]) -> Any:
        """See ``Front``."""
        return graphs.volumes_pipeline(
            config, lambda i: plans(i).data, lambda i: plans(i).starts, lambda i: plans(i).draws
        )

    def close(self) -> None:
        """See ``Front``."""
        self._volumes.close()


class FileFront:
    """DALI reads whole files in the order of the draws, and crops afterwards. See ``Front``.

    A reader takes its list of files when it is built, so that a pipeline ends with the list.
    """

    def __init__(
        self,
        samples: Samples,
        files: FileVolumes,
        *,
        seed: int,
        noise_in_graph: bool,
        steps_per_pipeline: int,
        description: str,
    ) -> None:
        self._samples, self._files = samples, files
        self._seed, self._noise_in_graph = seed, noise_in_graph
        self.steps_per_pipeline: int | None = steps_per_pipeline
        self.description = description
        self._checked: set[int] = set()

    def plan(self, number: int, step: Step) -> Plan:
        """See ``Front``."""
        for case in set(step.cases) - self._checked:
            self._samples.check(case, self._files.label(case)[0])
            self._checked.add(case)
        windows, draws, searched = _drawn(self._samples, step, self._seed, self._noise_in_graph)
        read = sum(_size(path) for case in step.cases for path in self._files.paths(case))
        return Plan(draws, (), (), _starts(windows), searched + read)

    def pipeline(self, config: GraphConfig, plans: Plans, steps: list[Step]) -> Any:
        """See ``Front``."""
        paths = [self._files.paths(case) for step in steps for case in step.cases]
        images, labels = ([str(path) for path in column] for column in zip(*paths, strict=True))
        return graphs.files_pipeline(
            config, images, labels, lambda i: plans(i).starts, lambda i: plans(i).draws
        )

    def close(self) -> None:
        """See ``Front``."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _for_dali(tensor: torch.Tensor) -> Any:
    """DALI takes tensors of torch as they are where there is a GPU: it asks for the current CUDA stream."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def _drawn(
    samples: Samples, step: Step, seed: int, noise_in_graph: bool
) -> tuple[list[CropWindow], tuple[Any, ...], int]:
    windows, augmentations, searched = [], [], 0
    for position, case in zip(step.positions, step.cases, strict=True):
        window, augmentation, bytes_read = samples.draw(step.epoch, position, case)
        windows.append(window)
        augmentations.append(augmentation)
        searched += bytes_read
    draws = draws_of(augmentations, samples.patch_shape, seed, step, noise_in_graph=noise_in_graph)
    return windows, draws, searched


def _starts(windows: list[CropWindow]) -> tuple[Any, ...]:
    return ([np.array([0, *window.start], np.int32) for window in windows],)
