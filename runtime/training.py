"""The training step and the training loop."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import torch
from torch import Tensor
from torch.profiler import record_function
from tqdm import tqdm

from pipelines.base import Batch, TrainLoader
from runtime.callbacks import Callback
from runtime.distributed_utils import World, gather, gradients_kept_local
from runtime.errors import Stopped
from runtime.evaluation import Evaluations
from runtime.inference import EvalResult
from runtime.keeper import Keeper, Place
from runtime.logging import RunLog
from runtime.optimizers import set_learning_rate
from runtime.precision import has_collapsed
from runtime.schedule import EvaluationSchedule, LearningRate, blocks
from runtime.state import TrainState
from runtime.verdict import Verdict, agree


def train_step(state: TrainState, batches: Iterator[Batch]) -> Tensor:
    """One optimiser step on the next ``ga_steps`` batches; nothing in it waits for the device.

    Its parts carry names for profilers. Gradients are averaged over micro-batches and, under DDP, over ranks
    (communicated once, with the last micro-batch). Where the state has a graph, the same step is a replay.

    Returns:
        The mean loss over the micro-batches: a float32 scalar on the device.
    """
    if state.graph is None:
        return _launched(state, batches)
    return state.graph.step(partial(_launched, state), batches)


def _launched(state: TrainState, batches: Iterator[Batch]) -> Tensor:
    """See `train_step`: kernel by kernel."""
    losses = []
    for micro_step in range(1, state.ga_steps + 1):
        with record_function("next batch"):
            image, label = next(batches)
        with gradients_kept_local(state.model, micro_step < state.ga_steps):
            with state.precision.autocast():
                with record_function("forward"):
                    logits = state.model(image)
                with record_function("loss"):
                    loss = state.loss_fn(logits, label) / state.ga_steps
            with record_function("backward"):
                state.scaler.scale(loss).backward()
        losses.append(loss.detach())
    with record_function("optimizer"):
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad()
    return torch.stack(losses).sum()


def training_steps(
    state: TrainState,
    batches: Iterator[Batch],
    steps_per_epoch: int,
    learning_rate: LearningRate,
    first_epoch: int = 1,
    first_step: int = 0,
) -> Iterator[Tensor]:
    """Step without end, each epoch at its learning rate; yields each step's loss.

    ``first_step`` steps of ``first_epoch`` are behind us.
    """
    state.model.train()
    for epoch in count(first_epoch):
        set_learning_rate(state.optimizer, learning_rate.at(epoch))
        for _ in range(first_step if epoch == first_epoch else 0, steps_per_epoch):
            yield train_step(state, batches)


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a training run does and when."""

    epochs: int
    steps_per_epoch: int
    samples_per_epoch: int
    learning_rate: LearningRate
    evaluation: EvaluationSchedule
    quality_threshold: float
    first_epoch: int = 1
    first_step: int = 0
    """Steps of ``first_epoch`` that the run which this one continues has done."""
    first_losses: Sequence[float] = ()
    """Losses of these steps, on this rank; empty where the checkpoint does not tell."""
    best_dice: float = 0.0
    """Of the run that this one continues."""


@dataclass(frozen=True)
class Outcome:
    """How training ended. ``status`` is reached, unreached or diverged."""

    status: str
    last_epoch: int
    result: EvalResult | None


def train(
    state: TrainState,
    loader: TrainLoader,
    evaluations: Evaluations,
    plan: TrainingPlan,
    callbacks: Sequence[Callback],
    log: RunLog,
    world: World,
    keeper: Keeper,
    verbose: bool = False,
) -> Outcome:
    """Train until the quality threshold, divergence or the last epoch.

    The batch stream runs through epochs and evaluations without stopping, so the loader keeps
    prefetching. The loss is read once per epoch, and where a checkpoint is saved.

    Raises:
        Stopped: A signal asked to; what was done is saved.
    """
    last_epoch = plan.first_epoch - 1
    if plan.best_dice and plan.best_dice >= plan.quality_threshold:  # 0: nothing was evaluated yet
        return Outcome("reached", last_epoch, None)
    steps = training_steps(
        state, iter(loader), plan.steps_per_epoch, plan.learning_rate, plan.first_epoch, plan.first_step
    )
    verdict = Verdict(plan.quality_threshold, callbacks, plan.best_dice)
    settle = partial(evaluations.finish, verdict)
    for block in blocks(plan.first_epoch, plan.epochs, plan.evaluation):
        with log.block(block.epochs, plan.samples_per_epoch):
            begin, trained = time.perf_counter(), 0
            for last_epoch in block.epochs:
                done = plan.first_step if last_epoch == plan.first_epoch else 0
                losses = list(torch.tensor(plan.first_losses, device=world.device)) if done else []
                bar = tqdm(
                    islice(steps, plan.steps_per_epoch - done),
                    initial=done,
                    total=plan.steps_per_epoch,
                    desc=f"epoch {last_epoch}",
                    disable=not (verbose and world.is_main),
                )
                for step, step_loss in enumerate(bar, start=done + 1):
                    losses.append(step_loss)
                    evaluations.poll(verdict)
                    place = Place(last_epoch, step, plan.steps_per_epoch, losses)
                    keeper.after_step(place, state, settle)
                trained += plan.steps_per_epoch - done
                loss, status = agree(verdict, world, torch.stack(losses).mean())
                for callback in callbacks:
                    callback.on_epoch_end(last_epoch, loss)
                if not math.isfinite(loss) and (lost := _first_lost(losses, world)):
                    for callback in callbacks:
                        callback.on_lost_loss(
                            last_epoch, plan.steps_per_epoch - len(losses) + lost[0], lost[1]
                        )
                if status or not math.isfinite(loss):
                    return Outcome(status or "diverged", last_epoch, verdict.result)
            rate = trained * plan.samples_per_epoch / plan.steps_per_epoch / (time.perf_counter() - begin)
            scale = state.scaler.get_scale()
            log.tracked_stats(block.epochs[0], rate, scale, plan.learning_rate.at(last_epoch))
            if has_collapsed(state.scaler):
                for callback in callbacks:
                    callback.on_scale_collapse(last_epoch, scale)
                return Outcome("diverged", last_epoch, verdict.result)
        if block.evaluates:
            try:
                evaluations.due(state, last_epoch, last_epoch * plan.samples_per_epoch, loss, verdict)
            except Stopped as stopped:
                place = Place(last_epoch, plan.steps_per_epoch, plan.steps_per_epoch, losses)
                keeper.stop(place, state, settle, stopped.signal)
            if status := agree(verdict, world)[1]:
                return Outcome(status, last_epoch, verdict.result)
    evaluations.finish(verdict)
    return Outcome(agree(verdict, world)[1] or "unreached", last_epoch, verdict.result)


def _first_lost(losses: Sequence[Tensor], world: World) -> tuple[int, float] | None:
    """The first of these steps, from 1, whose loss is not finite on some rank, and that loss."""
    own = next(((i, v) for i, loss in enumerate(losses, 1) if not math.isfinite(v := loss.item())), None)
    return min((lost for lost in gather(own, world) if lost), default=None)
