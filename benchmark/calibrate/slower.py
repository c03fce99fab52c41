"""The shipped training step made a tenth slower: for ``--step``, to see that a comparison notices."""

import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch

from pipelines.base import Batch
from runtime.arguments import RunConfig
from runtime.clock import synchronize
from runtime.distributed_utils import World
from runtime.session import Session
from runtime.training import set_learning_rate, train_step

PART = 0.1
"""Of a step's time, added to it."""


def step(config: RunConfig, device: torch.device) -> Callable[[Batch], Any]:
    """See ``benchmark.profile.foreign``: our own step, and then as much more work as makes its time longer
    by ``PART``."""
    session = Session.of(config, World(device))
    state = session.state(session.model())
    state.model.train()
    set_learning_rate(state.optimizer, 1e-4)

    def slower(batch: Batch) -> None:
        begin = time.perf_counter()
        train_step(state, repeat(batch))
        synchronize(device)
        end = time.perf_counter() + PART * (time.perf_counter() - begin)
        while time.perf_counter() < end:
            pass

    return slower
