"""Whole evaluation volumes, the next one read in the background while the current one is used."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from pipelines.base import Shard, Volume
from pipelines.cases import Case, balance
from pipelines.errors import naming
from pipelines.foreground import check_classes
from pipelines.samples import open_case
from pipelines.slots import Layout, with_layout


def shard_cases(cases: Sequence[Case], shard: Shard) -> tuple[Case, ...]:
    """The evaluation cases of a rank, balanced by the size of their images."""
    shares = balance([case.image.stat().st_size for case in cases], shard.world_size)
    return tuple(cases[i] for i in shares[shard.rank])


class VolumeLoader:
    """See ``EvalLoader``: float32 and uint8 volumes, 1 x 1 x D x H x W, on ``device``.

    On CUDA a volume is staged in page-locked memory and copied on the stream that is current when it is
    asked for. Raises DataError as ``MappedVolume`` does, and for labels beyond MLPerf's classes.
    """

    def __init__(self, cases: Sequence[Case], device: torch.device, layout: Layout) -> None:
        self._cases, self._device, self._layout = tuple(cases), device, layout

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Volume]:
        with ThreadPoolExecutor(1, "evaluation") as reader:
            ahead: deque[Future[Volume]] = deque()
            for case in self._cases:
                ahead.append(reader.submit(self._read, case))
                if len(ahead) == 2:
                    yield self._on_device(ahead.popleft().result())
            while ahead:
                yield self._on_device(ahead.popleft().result())

    def close(self) -> None:
        """Nothing to stop: the reading thread ends with the iteration."""

    def _read(self, case: Case) -> Volume:
        image, label = open_case(case)
        lock = self._device.type == "cuda"
        shape = (1, 1, *image.shape)
        images = torch.empty(shape, dtype=torch.float32, pin_memory=lock)
        labels = torch.empty(shape, dtype=torch.uint8, pin_memory=lock)
        images.numpy()[0, 0] = image.whole()
        labels.numpy()[0, 0] = label.whole()
        with naming(case.label):
            check_classes(labels.numpy())
        return Volume(case.name, images, labels)

    def _on_device(self, volume: Volume) -> Volume:
        # The page-locked memory goes back to torch's cache, which waits for the copy before using it again.
        image = with_layout(volume.image.to(self._device, non_blocking=True), self._layout)
        return Volume(volume.case, image, volume.label.to(self._device, non_blocking=True))
