"""Warm-up before the clock leaves no trace."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines import data_loader
from runtime.arguments import parse_arguments
from runtime.distributed_utils import World
from runtime.optimizers import set_learning_rate
from runtime.session import Session
from runtime.state import TrainState
from runtime.training import train_step
from runtime.warmup import warm_up_evaluation, warm_up_training

FLAGS = (
    "--loader", "synthetic", "--filters", "2", "4", "--input_shape", "16", "16", "16",
    "--val_input_shape", "8", "8", "8", "--seed", "3", "--data_dir",
)  # fmt: skip


def started(*more: str) -> tuple[Session, TrainState]:
    config = parse_arguments([*FLAGS, "/nowhere", *more])
    session = Session.of(config, World(torch.device("cpu")))
    return session, session.state(session.model())


def values(state: TrainState) -> list[Any]:
    """All numbers that a step reads."""
    momentum = [tensor for kept in state.optimizer.state.values() for tensor in kept.values()]
    tensors = [*state.model.state_dict().values(), *momentum, torch.get_rng_state()]
    return [[tensor.clone() for tensor in tensors if tensor.any()], state.scaler.state_dict()]


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--amp", "--amp_dtype", "float16", "--layout", "NDHWC"),
        ("--normalization", "batchnorm", "--optimizer", "adam", "--ga_steps", "2"),
        ("--amp", "--amp_dtype", "bfloat16", "--shadow_weights", "--layout", "NDHWC", "--fused", "off"),
    ],
)
def test_training_begins_as_if_nothing_had_been(flags: tuple[str, ...]) -> None:
    session, warm = started(*flags)
    before = values(warm)
    warm_up_training(session, warm, 3)
    warm_up_evaluation(session, warm.model)
    after = values(warm)
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert before[1] == after[1]
    # And the steps that follow are those of a run that has not been warmed up, to the last bit.
    session, cold = started(*flags)
    losses = []
    for state in (warm, cold):
        batches = iter(data_loader.build(session.config.loader, session.shard, session.world.device))
        set_learning_rate(state.optimizer, 0.01)
        losses.append([train_step(state, batches).item() for _ in range(3)])
    assert losses[0] == losses[1]
    for a, b in zip(warm.model.state_dict().values(), cold.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_16_bit_copies_are_of_the_weights_again() -> None:
    """A replayed CUDA graph reads them without looking whether the weights have changed since."""
    session, state = started("--amp", "--amp_dtype", "bfloat16", "--shadow_weights", "--layout", "NDHWC")
    warm_up_training(session, state, 2)
    assert state.shadows
    for master, copy in zip(state.shadows._masters, state.shadows._copies, strict=True):
        assert torch.equal(copy, master.detach().to(copy.dtype))


def test_steps_that_are_counted_in_plain_numbers_are_undone() -> None:
    session, state = started()
    state.optimizer.param_groups[0]["step"] = 5

    def count(*arguments: object) -> None:
        state.optimizer.param_groups[0]["step"] += 1

    state.optimizer.register_step_post_hook(count)
    warm_up_training(session, state, 2)
    assert state.optimizer.param_groups[0]["step"] == 5


def test_no_data_is_touched(tmp_path: Path) -> None:
    session, state = started("--loader", "dali", "--data_cache", "device")
    assert not session.config.loader.data_dir.exists()
    warm_up_training(session, state, 1)
    warm_up_evaluation(session, state.model)
