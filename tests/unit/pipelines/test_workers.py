import gc
import itertools
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.data

from pipelines import pytorch_loader
from pipelines.base import Shard
from pipelines.data_loader import LoaderConfig, build
from pipelines.pytorch_loader import PytorchTrainLoader
from pipelines.samples import Samples


def blocked() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_workers_are_started_with_interrupts_blocked(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Noting(torch.utils.data.DataLoader[Any]):
        def __iter__(self) -> Any:
            seen.append(blocked())
            return super().__iter__()

    monkeypatch.setattr(pytorch_loader, "DataLoader", Noting)
    loader = build(config, Shard(), torch.device("cpu"))
    assert isinstance(loader, PytorchTrainLoader)
    next(iter(loader))
    loader.close()
    assert seen == [True]
    assert not blocked()


class Pipeline:
    """As DALI's: in a cycle with itself, and not to be destroyed in another process than its own."""

    def __init__(self, told: Path) -> None:
        self.itself, self._told = self, told

    def __del__(self) -> None:
        with self._told.open("a") as file:
            print(os.getpid(), file=file)


def test_workers_do_not_destroy_what_their_parent_dropped(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = Samples.write

    def collecting(self: Samples, *sample: Any) -> Any:
        gc.collect()
        return write(self, *sample)

    monkeypatch.setattr(Samples, "write", collecting)
    told = tmp_path / "destroyed"
    gc.disable()
    try:
        Pipeline(told)
        loader = build(replace(config, num_workers=2), Shard(), torch.device("cpu"))
        for _ in itertools.islice(loader, 4):
            pass
        loader.close()
        assert not told.exists()
    finally:
        gc.enable()
    gc.collect()
    assert told.read_text() == f"{os.getpid()}\n", "the parent does it by itself"
