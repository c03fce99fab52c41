"""``--benchmark``: the training step or the evaluation of a real run, timed."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice, repeat
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from pipelines import data_loader
from pipelines.base import Batch, EvalLoader, Volume
from pipelines.slots import Layout, with_layout
from pipelines.windows import count_windows
from runtime.arguments import RunConfig
from runtime.callbacks import Performance, PerformanceCallback
from runtime.clock import StepClock
from runtime.distributed_utils import World, barrier, gather
from runtime.headline import Headline
from runtime.inference import Evaluator
from runtime.session import Session
from runtime.state import TrainState
from runtime.training import train_step, training_steps


@dataclass(frozen=True)
class Throughput:
    """What a benchmark found: lines to read, the rate last, and the same as plain values for a file."""

    lines: tuple[str, ...]
    values: dict[str, Any]
    interrupted: bool = False
    """By Ctrl-C, in the timed window: what was measured up to then."""


def benchmark_training(config: RunConfig, world: World) -> Throughput:
    """Train across epoch borders, without evaluations, until warm-up and the timed steps are done; then
    ``ceiling_steps`` more on the last batch, for the rate without a loader. Ctrl-C ends the timed window.

    Images per second count all ranks; the window is this rank's, which DDP keeps in step with the others.
    """
    session = Session.of(config, world)
    with closing(session.state(session.model())) as state:
        return _time_training(session, state)


def _time_training(session: Session, state: TrainState) -> Throughput:
    config, world = session.config, session.world
    loader = data_loader.build(session.config.loader, session.shard, world.device)
    world.say(f"data: {loader.description}")
    clock = StepClock(world.device)
    timing = PerformanceCallback(clock, config.warmup_steps, config.benchmark_steps)
    total = config.warmup_steps + config.benchmark_steps
    interrupted, resident = False, None
    try:
        steps_per_epoch = len(loader) // config.loader.ga_steps
        batches = iter(loader)
        steps = training_steps(state, clock.watching(batches), steps_per_epoch, config.learning_rate)
        timing.on_fit_start()
        hidden = not (config.verbose and world.is_main)
        for last_loss in tqdm(islice(steps, total), total=total, desc="steps", disable=hidden):  # noqa: B007
            timing.on_step()
        resident = _copy(next(batches)) if config.ceiling_steps else None
    except KeyboardInterrupt:
        # With several ranks the device may be waiting for one that has ended.
        if world.size > 1 or not timing.cut_short():
            raise
        interrupted = True
    finally:
        loader.close()
    performance = timing.performance(session.global_batch_size)
    step_seconds = clock.step_seconds()
    # On a GPU a host that is ahead waits in next() for the device, not for data.
    wait_seconds = clock.stall_seconds() if world.device.type == "cuda" else clock.wait_seconds()
    ceiling: list[float] = []
    try:
        if resident:
            ceiling = _ceiling(state, resident, config.ceiling_steps, clock)
    except KeyboardInterrupt:
        if world.size > 1:
            raise
        interrupted = True
    headline = Headline.of(
        step_seconds,
        ceiling,
        images_per_step=session.global_batch_size,
        window_s=performance.window_seconds,
        # Twice what may be ready at a time: so far may a burst of finished batches couple steps.
        block=2 * -(-config.loader.prefetch * max(1, config.loader.num_workers) // config.loader.ga_steps),
    )
    return Throughput(
        (
            f"{config.warmup_steps} warm-up steps, then {performance.describe('step')}; last loss "
            f"{last_loss.item():.4f}",
            *headline.remarks,
            *([f"interrupted: {len(step_seconds)} steps were timed; start again for more"] * interrupted),
            headline.line,
        ),
        {
            "images_per_second": performance.items_per_second,
            "last_loss": last_loss.item(),
            "bad_cases": [asdict(bad) for bad in loader.bad_cases],
            "ops": asdict(session.ops),
            **asdict(performance),
            **headline.values,
            "step_us": microseconds(step_seconds),
            "wait_us": microseconds(wait_seconds),
        },
        interrupted,
    )


def microseconds(seconds: list[float]) -> list[int]:
    """Times as a record keeps them."""
    return [round(value * 1e6) for value in seconds]


def _copy(batch: Batch) -> Batch:
    """A batch that stays when the loader is closed."""
    return Batch(*(part.clone(memory_format=torch.preserve_format) for part in batch))


def _ceiling(state: TrainState, batch: Batch, num_steps: int, clock: StepClock) -> list[float]:
    """Seconds of ``num_steps`` steps on a resident batch."""
    train_step(state, repeat(batch))  # whatever the loader still did is over by then
    clock.start()
    for _ in range(num_steps):
        train_step(state, repeat(batch))
        clock.step()
    clock.stop()
    return clock.step_seconds()


class _TimedVolumes:
    """An evaluation loader that marks the clock whenever a volume has been dealt with."""

    def __init__(
        self, loader: EvalLoader, clock: StepClock, roi_shape: tuple[int, ...], overlap: float
    ) -> None:
        self._loader = loader
        self._clock = clock
        self._window = (roi_shape, overlap)
        self.num_windows = 0

    def __iter__(self) -> Iterator[Volume]:
        for volume in self._loader:
            yield volume
            self._clock.step()
            self.num_windows += count_windows(volume.image.shape[2:], *self._window)

    def __len__(self) -> int:
        return len(self._loader)

    def close(self) -> None:
        self._loader.close()


def _warm_up(evaluator: Evaluator, model: nn.Module, steps: int, layout: Layout) -> None:
    """Score volumes of zeros, each one batch of windows: of every size that a batch may have, in turn, since
    cuDNN looks for algorithms for each. No collective: ranks may do it on their own."""
    model.eval()
    depth, height, width = evaluator.roi_shape
    with torch.inference_mode():
        for step in range(steps):
            windows = evaluator.val_batch_size - step % evaluator.val_batch_size
            shape = (1, 1, depth, height, width + (windows - 1) * int(width * (1 - evaluator.overlap)))
            image = torch.zeros(shape, device=evaluator.world.device)
            label = torch.zeros(shape, dtype=torch.uint8, device=evaluator.world.device)
            evaluator.score(model, Volume("zeros", with_layout(image, layout), label))


def benchmark_evaluation(config: RunConfig, world: World) -> Throughput:
    """Evaluate every volume once, after ``warmup_steps`` batches of windows of zeros that do not count.

    Volumes and windows per second count all ranks, loading included; the window closes when all ranks
    have exchanged their scores.
    """
    session = Session.of(config, world)
    model = session.model()
    session.check(model, session.windows_shape)
    clock = StepClock(world.device)
    loader = data_loader.build_evaluation(session.config.loader, session.shard, world.device)
    timed = _TimedVolumes(loader, clock, config.loader.val_input_shape, config.overlap)
    evaluator = session.evaluator(timed)
    try:
        _warm_up(evaluator, model, config.warmup_steps, config.loader.layout)
        barrier(world)
        clock.start()
        result = evaluator(model)
        clock.stop()
    finally:
        loader.close()
    windows = sum(gather(timed.num_windows, world))
    if not world.is_main:  # which may have had no volume to time
        return Throughput((), {})
    performance = Performance.of(clock, result.num_cases)
    per_second = windows / performance.window_seconds
    return Throughput(
        (
            f"{config.warmup_steps} warm-up batches, then {performance.describe('volume')} on this rank",
            f"{performance.items_per_second:.3f} volumes/s, {per_second:.2f} windows/s",
        ),
        {
            "volumes_per_second": performance.items_per_second,
            "ops": asdict(session.ops),
            "windows_per_second": per_second,
            **asdict(performance),
        },
    )
