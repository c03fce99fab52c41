"""What a loader must emit, made sample by sample from whole files; and ways to compare with it."""

import itertools
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from pipelines.augment import apply
from pipelines.base import BEGINNING, Batch, Position, Shard
from pipelines.cases import Case, cases_of, find_cases, split
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


def naive(
    config: LoaderConfig, count: int, shard: Shard = ONE, bad: Collection[int] = (), begin: int = 0
) -> list[Batch]:
    """The same batches from whole files, one sample after the other.

    The next case stands in for the training cases of the numbers ``bad``, from batch ``begin`` on, and
    wherever the patch of a case is not finite.
    """
    cases = split(find_cases(config.data_dir), evaluation_ids(config.evaluation_cases))[0]
    own = cases_of(shard, len(cases), config.seed, config.sharding)
    batches = []
    for number, step in enumerate(itertools.islice(schedule(config, shard).steps(Position()), count)):
        image = np.empty((config.batch_size, 1, *config.input_shape), np.float32)
        label = np.empty(image.shape, np.uint8)
        for i, (position, case) in enumerate(zip(step.positions, step.cases, strict=True)):
            while (case in bad and number >= begin) or not naive_sample(
                config, cases[case], step.epoch, position, image[i, 0], label[i, 0]
            ):
                case = own[(own.index(case) + 1) % len(own)]
        batches.append(Batch(torch.from_numpy(image), torch.from_numpy(label)))
    return batches


def naive_sample(
    config: LoaderConfig, case: Case, epoch: int, position: int, image: np.ndarray, label: np.ndarray
) -> bool:
    """Write one sample; whether it is finite."""
    x, y = np.load(case.image)[0].astype(np.float32), np.load(case.label)[0]
    window, augmentation = draw(
        DrawConfig(patch_shape=config.input_shape, oversampling=config.oversampling),
        seed=config.seed,
        epoch=epoch,
        sample=position,
        volume_shape=x.shape,
        boxes=lambda: foreground_boxes(y),
    )
    inside = tuple(slice(a, a + n) for a, n in zip(window.start, window.shape, strict=True))
    apply(x[inside], y[inside], augmentation, image, label)
    return bool(np.isfinite(x[inside]).all())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers_of(loader: PytorchTrainLoader) -> list[int]:
    """The processes of a loader that is being iterated."""
    return [worker.pid for worker in loader._workers._workers]
