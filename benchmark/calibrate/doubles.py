"""Parts of a real run that take a known time longer, put where the real ones go: only the time is made up."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.profile.subject import Subject
from pipelines.base import BEGINNING
from pipelines.dataset import schedule, split_cases
from pipelines.delivery import HostDelivery
from pipelines.draw import CropWindow, DrawConfig
from pipelines.pytorch_loader import PytorchTrainLoader
from pipelines.samples import Samples
from pipelines.volumes import FileVolumes, Patch
from preprocess.spec import NUM_CLASSES
from runtime.state import TrainState

_AWAKE_S = 0.002


@dataclass(frozen=True, kw_only=True)
class Delays:
    """Milliseconds for a batch."""

    fetch: float = 0.0
    """A worker waits for data."""
    prep: float = 0.0
    """A worker computes."""
    transfer: float = 0.0
    """A batch is under way to the step, which waits for it."""
    compute: float = 0.0
    """The step computes."""
    contention: float = 0.0
    """The step computes longer while the loader works."""


def exactly(seconds: float) -> None:
    """Take that long. A sleeper wakes late, on a CPU that has slept too: the last bit is spent awake."""
    end = time.perf_counter() + seconds
    time.sleep(max(0.0, seconds - _AWAKE_S))
    while time.perf_counter() < end:
        pass


class SlowVolumes(FileVolumes):
    """Files that take longer to be read."""

    fetch_s = 0.0

    def patch(self, case: int, window: CropWindow) -> Patch:
        """After a while."""
        time.sleep(self.fetch_s)
        return super().patch(case, window)


class BusySamples(Samples):
    """Samples that take a worker's CPU longer."""

    prep_s = 0.0

    def check(self, case: int, label: NDArray[np.uint8]) -> None:
        """After much work."""
        end = time.thread_time() + self.prep_s
        while time.thread_time() < end:
            pass
        super().check(case, label)


class SlowDelivery(HostDelivery):
    """A way to the step that takes time."""

    delay_s = 0.0

    def upload(self, k: int, slot: int) -> Any:
        """After a while."""
        begin = time.perf_counter()
        exactly(self.delay_s)
        batch = super().upload(k, slot)
        self.transfer_s = time.perf_counter() - begin
        return batch


class SlowModel(nn.Module):
    """One convolution, and a while; ``beside`` tells whether a loader works at the same time."""

    def __init__(self, delays: Delays, beside: Callable[[], bool]) -> None:
        super().__init__()
        self._delays, self._beside = delays, beside
        self.conv = nn.Conv3d(1, NUM_CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        """N x 1 x D x H x W -> N x 3 x D x H x W."""
        extra = self._delays.contention if self._beside() else 0.0
        exactly((self._delays.compute + extra) / 1000)
        logits: Tensor = self.conv(image)
        return logits


class DelayedSubject(Subject):
    """The shipped loader and step, with slow parts in the places that are made for parts."""

    delays = Delays()

    def loader(self) -> Any:
        """See ``Subject``."""
        config, session = self.config.loader, self.session
        cases = split_cases(config)[0]
        volumes = SlowVolumes(cases)
        volumes.fetch_s = self.delays.fetch / 1000 / config.batch_size
        draws = DrawConfig(
            patch_shape=config.input_shape, oversampling=config.oversampling, brightness=config.brightness
        )
        samples = BusySamples(cases, volumes, draws, config.seed, session.shard.neighbours)
        samples.prep_s = self.delays.prep / 1000 / config.batch_size

        def delivery(ring: Any, layout: Any, dtype: torch.dtype, device: torch.device) -> SlowDelivery:
            made = SlowDelivery(ring, layout, dtype)
            made.delay_s = self.delays.transfer / 1000
            return made

        return PytorchTrainLoader(
            samples,
            schedule(config, session.shard),
            self.world.device,
            num_workers=config.num_workers,
            prefetch=config.prefetch,
            layout=config.layout,
            start=BEGINNING,
            timeout=config.timeout,
            delivery=delivery,
        )

    def steps(self, batches: Iterator[Any], *, local: bool = False) -> Iterator[Any]:
        """See ``Subject``; contention is there where batches come from a loader."""
        self._beside = type(batches).__name__ == "_Watched"
        return super().steps(batches, local=local)

    @cached_property
    def _state(self) -> TrainState:
        model: Any = SlowModel(self.delays, lambda: self._beside)
        return self.session.state(model)
