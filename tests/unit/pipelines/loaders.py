"""What a loader must emit, made sample by sample from whole files; and ways to compare with it."""

import itertools
from pathlib import Path

import numpy as np
import torch

from pipelines.augment import apply
from pipelines.base import BEGINNING, Batch, Position, Shard
from pipelines.cases import find_cases, split
from pipelines.data_loader import LoaderConfig, build, schedule
from pipelines.draw import DrawConfig, draw
from pipelines.foreground import foreground_boxes
from pipelines.pytorch_loader import PytorchTrainLoader
from preprocess.spec import evaluation_ids

CPU = torch.device("cpu")
ONE = Shard()


def take(
    config: LoaderConfig,
    count: int,
    shard: Shard = ONE,
    start: Position = BEGINNING,
    device: torch.device = CPU,
) -> list[Batch]:
    loader = build(config, shard, device, start)
    try:
        return [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(loader, count)]
    finally:
        loader.close()


def assert_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine.image, theirs.image)
        assert torch.equal(mine.label, theirs.label)


def naive(config: LoaderConfig, count: int, shard: Shard = ONE) -> list[Batch]:
    """The same batches from whole files, one sample after the other."""
    cases = split(find_cases(config.data_dir), evaluation_ids(config.evaluation_cases))[0]
    draw_config = DrawConfig(patch_shape=config.input_shape, oversampling=config.oversampling)
    batches = []
    for step in itertools.islice(schedule(config, shard).steps(Position()), count):
        image = np.empty((config.batch_size, 1, *config.input_shape), np.float32)
        label = np.empty(image.shape, np.uint8)
        for i, (position, case) in enumerate(zip(step.positions, step.cases, strict=True)):
            x, y = np.load(cases[case].image)[0], np.load(cases[case].label)[0]
            x = x.astype(np.float32)
            window, augmentation = draw(
                draw_config,
                seed=config.seed,
                epoch=step.epoch,
                sample=position,
                volume_shape=x.shape,
                boxes=lambda y=y: foreground_boxes(y),
            )
            inside = tuple(slice(a, a + n) for a, n in zip(window.start, window.shape, strict=True))
            apply(x[inside], y[inside], augmentation, image[i, 0], label[i, 0])
        batches.append(Batch(torch.from_numpy(image), torch.from_numpy(label)))
    return batches


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers_of(loader: PytorchTrainLoader) -> list[int]:
    """The processes of a loader that is being iterated."""
    return [worker.pid for worker in loader._workers._workers]
