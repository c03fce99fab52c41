"""Whole evaluation volumes, the next one read in the background while the current one is used."""

from collections.abc import Iterator, Sequence

import torch

from pipelines.augment import copy
from pipelines.base import Shard, Volume
from pipelines.cases import Case, balance
from pipelines.device_buffers import on
from pipelines.draw import Shape
from pipelines.errors import naming
from pipelines.finite import check_finite
from pipelines.foreground import check_classes
from pipelines.planner import Planner
from pipelines.slots import Layout, with_layout
from pipelines.volumes import open_case
from pipelines.windows import count_windows


def shard_cases(cases: Sequence[Case], shard: Shard, roi_shape: Shape, overlap: float) -> tuple[Case, ...]:
    """The evaluation cases of a rank, balanced by their windows of ``roi_shape``: see `cases.balance`.

    Every rank reads the headers of all cases and finds the same shares. Raises DataError as ``open_case``.
    """
    costs = [count_windows(open_case(case)[0].shape, roi_shape, overlap) for case in cases]
    return tuple(cases[i] for i in balance(costs, shard.world_size)[shard.rank])


class VolumeLoader:
    """See ``EvalLoader``: float32 and uint8 volumes, 1 x 1 x D x H x W, on ``device``.

    While a volume is used, the next one is read and, on CUDA, brought to the device from page-locked memory
    on a stream of its own; use a volume on the stream that was current when it was asked for. Raises
    DataError as ``MappedVolume`` does (of headers at once, since an evaluation may come hours later), for
    labels beyond MLPerf's classes, images that are not finite, and for a volume that takes longer than
    ``timeout`` seconds: scores over fewer cases would be no scores, so none is ever skipped.
    """

    def __init__(self, cases: Sequence[Case], device: torch.device, layout: Layout, timeout: float) -> None:
        self._cases, self._device, self._layout, self._timeout = tuple(cases), device, layout, timeout
        for case in self._cases:
            open_case(case)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Volume]:
        reader = Planner(
            iter(self._cases),
            self._read_here,
            threads=1,
            ahead=1,
            kept=1,
            timeout=self._timeout,
            names=lambda case: case.name,
        )
        try:
            for number in range(len(self._cases)):
                yield self._arrived(reader.get(number))
        finally:
            reader.close()

    def close(self) -> None:
        """Nothing to stop: the reading thread ends with the iteration."""

    def _read_here(self, number: int, case: Case) -> Volume:
        with on(self._device):
            return self._read(case)

    def _read(self, case: Case) -> Volume:
        image, label = open_case(case)
        lock = self._stream is not None
        shape = (1, 1, *image.shape)
        images = torch.empty(shape, dtype=torch.float32, pin_memory=lock)
        labels = torch.empty(shape, dtype=torch.uint8, pin_memory=lock)
        copy(image.whole()[0], images.numpy()[0, 0])
        copy(label.whole()[0], labels.numpy()[0, 0])
        with naming(case.label):
            check_classes(labels.numpy())
        check_finite(images.numpy(), case.image)
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                images, labels = images.to(self._device), labels.to(self._device)
        return Volume(case.name, with_layout(images, self._layout), labels)

    def _arrived(self, volume: Volume) -> Volume:
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            # The reader's stream made these tensors; their memory must not go back to it too early.
            volume.image.record_stream(current)
            volume.label.record_stream(current)
        return volume
