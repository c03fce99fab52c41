import signal
from typing import Any

import pytest
import torch
import torch.utils.data

from pipelines import pytorch_loader
from pipelines.base import Shard
from pipelines.data_loader import LoaderConfig, build
from pipelines.pytorch_loader import PytorchTrainLoader


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
