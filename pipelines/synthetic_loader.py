"""Batches at no cost: the ceiling that every loader is measured against.

Shapes, dtypes, layout, device and the lengths of epochs are those of the real loaders on the whole data
set; the voxels are seeded noise that lies on the device from the start.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from pipelines.base import BadCase, Batch, Observer, Position, Shard, Volume
from pipelines.cases import Schedule, balance
from pipelines.draw import Shape
from pipelines.slots import Layout, with_layout
from preprocess.spec import EVAL_SAMPLES, NUM_CLASSES

_POOL = 4
"""Different batches, handed out in turn."""


def _noise(batch_size: int, shape: Shape, device: torch.device, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    full = (batch_size, 1, *shape)
    image = torch.randn(full, dtype=torch.float32, device=device, generator=generator)
    label = torch.randint(NUM_CLASSES, full, dtype=torch.uint8, device=device, generator=generator)
    return image, label


class SyntheticTrainLoader:
    """Training batches, see ``TrainLoader``; which batch comes when depends only on epoch and step."""

    def __init__(
        self,
        schedule: Schedule,
        patch_shape: Shape,
        device: torch.device,
        *,
        layout: Layout,
        image_dtype: torch.dtype,
        start: Position,
    ) -> None:
        self._schedule, self._start = schedule, start
        self.observer: Observer | None = None
        self.bytes_read = 0
        self.bad_cases: tuple[BadCase, ...] = ()
        self.description = f"synthetic, {_POOL} batches resident on {device}"
        self._pool = []
        for i in range(_POOL):
            seed = (schedule.seed * schedule.shard.world_size + schedule.shard.rank) * _POOL + i
            image, label = _noise(schedule.batch_size, patch_shape, device, seed % 2**63)
            self._pool.append(Batch(with_layout(image.to(image_dtype), layout), label))

    def __len__(self) -> int:
        return self._schedule.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        per_step = self._schedule.shard.world_size * self._schedule.batch_size
        for step in self._schedule.steps(self._start):
            yield self._pool[(step.epoch + step.positions[0] // per_step) % _POOL]

    def close(self) -> None:
        """Nothing to stop."""


class SyntheticVolumeLoader:
    """Evaluation volumes, see ``EvalLoader``: one of 1 x 2 x 2 windows at half overlap, many times.

    A volume measures D x 1.5 H x 1.5 W of ``window_shape``, so that inference slides over it.
    """

    def __init__(
        self, window_shape: Shape, shard: Shard, device: torch.device, *, layout: Layout, seed: int
    ) -> None:
        depth, height, width = window_shape
        image, label = _noise(1, (depth, height * 3 // 2, width * 3 // 2), device, seed)
        self._image, self._label = with_layout(image, layout), label
        self._cases = balance([1] * EVAL_SAMPLES, shard.world_size)[shard.rank]

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Volume]:
        for case in self._cases:
            yield Volume(f"synthetic_{case:05d}", self._image, self._label)

    def close(self) -> None:
        """Nothing to stop."""
