from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.profile.foreign import ForeignLoader, ForeignStep, find
from pipelines.base import Batch, Shard
from pipelines.config import LoaderConfig
from pipelines.errors import DataError

CPU = torch.device("cpu")
CONFIG = LoaderConfig(loader="synthetic", batch_size=2, input_shape=(4, 6, 8), layout="NDHWC")
HERE = __name__


def epoch_of_three(config: LoaderConfig, shard: Shard, device: torch.device) -> Any:
    shape = (config.batch_size, 1, *config.input_shape)
    return [(np.full(shape, k, np.float64), np.ones(shape, np.int64)) for k in range(3)]


class Counting:
    bytes_read = 7
    closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([{"name": "x", "data": torch.zeros(2, 3)}] * 2)

    def close(self) -> None:
        self.closed = True


COUNTING = Counting()


def counting(config: LoaderConfig, shard: Shard, device: torch.device) -> Counting:
    return COUNTING


def empty(config: LoaderConfig, shard: Shard, device: torch.device) -> list[Any]:
    return []


def of_five(config: LoaderConfig, shard: Shard, device: torch.device) -> list[Any]:
    return [torch.zeros(5, 1)]


def other_patches(config: LoaderConfig, shard: Shard, device: torch.device) -> list[Any]:
    return [(torch.zeros(2, 1, 9), torch.zeros(2, 1, 9))]


def failing(config: LoaderConfig, shard: Shard, device: torch.device) -> Iterator[Any]:
    yield (torch.zeros(2, 1, 4, 6, 8), torch.zeros(2, 1, 4, 6, 8))
    raise KeyError("case 7")


def step(config: Any, device: torch.device) -> Any:
    return lambda batch: batch["data"].sum()


NO_FACTORY = 3


def loader(name: str, *, for_our_step: bool = True) -> ForeignLoader:
    return ForeignLoader(f"{HERE}:{name}", CONFIG, Shard(), CPU, for_our_step=for_our_step)


def test_epochs_follow_each_other_and_batches_become_ours() -> None:
    batches = list(islice(iter(loader("epoch_of_three")), 7))
    assert [int(batch.image[0, 0, 0, 0, 0]) for batch in batches] == [0, 1, 2, 0, 1, 2, 0]
    assert isinstance(batches[0], Batch)
    assert (batches[0].image.dtype, batches[0].label.dtype) == (torch.float32, torch.uint8)
    assert batches[0].image.is_contiguous(memory_format=torch.channels_last_3d)


def test_what_the_loader_may_have_is_used() -> None:
    one = loader("counting", for_our_step=False)
    assert one.bytes_read == 7
    assert next(iter(one))["name"] == "x", "somebody else's step gets the batch as it is"
    one.close()
    assert COUNTING.closed
    assert loader("epoch_of_three").bytes_read is None
    assert float(ForeignStep(f"{HERE}:step", None, CPU)({"data": torch.ones(3)})) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "ended without a single batch"),
        ("of_five", "a batch of 5, but --batch_size is 2: pass --batch_size 5"),
        ("other_patches", r"delivers \(2, 1, 9\) .* expected twice \(2, 1, 4, 6, 8\)"),
        ("counting", "no pair .image, label. of arrays: give its own step"),
        ("failing", r"raised KeyError at .*test_foreign.py:\d+: 'case 7'"),
        ("missing", "has no 'missing'"),
        ("NO_FACTORY", "is a int, expected something to call"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(name: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^--loader .*{message}"):
        list(islice(iter(loader(name)), 3))


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(DataError, match="^--step nobody.at.all:f: no module named 'nobody'; start where"):
        find("--step", "nobody.at.all:f")
