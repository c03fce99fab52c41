"""What may be done before the clock starts: everything once, on made-up data, without a trace."""

from contextlib import closing
from dataclasses import replace

import torch
from torch import nn

from pipelines import data_loader
from pipelines.config import LoaderConfig
from runtime.session import Session
from runtime.state import TrainState
from runtime.step_graph import untouched
from runtime.training import train_step


def warm_up_training(session: Session, state: TrainState, steps: int) -> None:
    """Training steps on synthetic batches; weights, optimizer, scaler and random numbers stay as they are.

    cuDNN has looked for its algorithms, Triton has compiled, memory is reserved and a CUDA graph is recorded
    afterwards. No epoch of the learning rate's schedule passes: a run sets its rate when an epoch begins.
    """
    device = session.world.device
    loader = data_loader.build(_synthetic(session.config.loader), session.shard, device)
    with closing(loader), untouched(state.model, state.optimizer, state.scaler):
        state.model.train()
        batches = iter(loader)
        for _ in range(steps):
            train_step(state, batches)
    if state.shadows:
        state.shadows.refresh()
    _wait_for(device)


def warm_up_evaluation(session: Session, model: nn.Module) -> None:
    """The evaluation of one synthetic volume, which changes nothing."""
    device = session.world.device
    loader = data_loader.build_evaluation(_synthetic(session.config.loader), session.shard, device)
    evaluator = session.evaluator(loader)
    was_training = model.training
    model.eval()
    with closing(loader), torch.inference_mode():
        for volume in loader:
            evaluator.score(model, volume)
            break
    model.train(was_training)
    _wait_for(device)


def _synthetic(config: LoaderConfig) -> LoaderConfig:
    """The same batches in shape, dtype and layout, of no data."""
    return replace(
        config, loader="synthetic", data_cache="none", cache_dtype="stored", reader="window",
        dali_device="auto",
    )  # fmt: skip


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
