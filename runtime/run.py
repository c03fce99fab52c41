"""Training runs as the command line asks for them."""

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines import data_loader
from pipelines.base import Position
from pipelines.dataset import dataset_sizes
from runtime import preflight
from runtime.arguments import RunConfig
from runtime.callbacks import Callback, CheckpointCallback, EvaluationCallback
from runtime.checkpoint_writer import CheckpointWriter
from runtime.distributed_utils import World, barrier, resolve_seed, unwrapped
from runtime.errors import RunError
from runtime.eval_ranks import Channel, divide
from runtime.evaluation import Beside, Elsewhere, Evaluations, InTurn
from runtime.evaluation_run import evaluate_beside
from runtime.generations import prepare
from runtime.keeper import Keeper
from runtime.logging import LOG_NAME, RunLog
from runtime.remarks import BadCases, LostNumbers
from runtime.resume import Start, check_stream, find_checkpoint, restore, with_seed_of
from runtime.schedule import mlperf_evaluation
from runtime.session import Session
from runtime.signals import Signals
from runtime.state import TrainState
from runtime.submission_log import check_init_time, log_submission
from runtime.training import Outcome, TrainingPlan, train
from runtime.warmup import warm_up_evaluation, warm_up_training

_CLOCK_SET_S = 1.0
"""A clock that was set by more is worth a warning: slewing changes it by 0.05 % at most."""


def run_training(config: RunConfig, world: World, signals: Signals) -> Outcome | None:
    """Train as configured and log the run by MLPerf's rules; None on ranks that only evaluated.

    No data is touched before ``run_start``. A run that ends by an exception, as a signal raises one, logs
    ``run_stop`` with status ``aborted`` all the same.

    Raises:
        Stopped: A signal asked to; what was done is saved.
        RunError: The closed division was asked for, and the run is not legal there; or anything that keeps
            it from training.
    """
    signals.limit()
    if config.mlperf.division == "closed" and world.is_main:
        preflight.insist_closed(config, world.size)
    if config.checkpoint.resume and config.mlperf.division != "open":
        raise RunError(
            f"--mlperf_division {config.mlperf.division}: a run that goes on after another is no time to "
            "train: drop --resume or --load_ckpt_path, or log it as open"
        )
    log = RunLog(config.log_dir / LOG_NAME, config.mlperf.ruleset) if world.is_main else RunLog()
    if config.caches_cleared == "yes":
        log.event("cache_clear", True)
    elif config.caches_cleared == "refused":
        log.event("cache_clear_not_permitted", True)
    log.start("init_start")
    begin = time.monotonic()
    resumed = find_checkpoint(config.checkpoint, world)
    if resumed:
        config = with_seed_of(resumed[1], config, world.say)
    config = replace(config, seed=resolve_seed(config.seed, world))
    place, channel = divide(world, config.eval_ranks)
    if channel and not world.is_main:
        with signals.heeded():  # it ends when rank 0 says so
            evaluate_beside(config, world, place, channel)
        return None
    session = Session.of(config, place)
    world.say(f"MLPerf log: {config.log_dir / LOG_NAME}")
    log_submission(log, session)
    model = session.model()
    log.weights_initialized(model)
    session.check(model, session.windows_shape)
    with closing(session.state(model)) as state:
        return _Run(session, world, channel, state, log, signals).prepared(resumed, begin)


@dataclass(frozen=True)
class _Run:
    """A training rank's run, from where its parts are built."""

    session: Session
    everybody: World
    """All ranks, evaluation ranks among them."""
    channel: Channel | None
    state: TrainState
    log: RunLog
    signals: Signals

    def prepared(self, resumed: tuple[Path, dict[str, Any]] | None, begin: float) -> Outcome:
        """What is left to get ready since ``begin``, on time.monotonic, and what the clock sees."""
        session, state = self.session, self.state
        config, world = session.config, session.world
        start, path = Start(), None
        if resumed:
            path = resumed[0]
            start = restore(state, resumed[1], path)
            after = f" after its step {start.step}" if start.step else ""
            world.say(f"continuing {path} with epoch {start.epoch}{after}")
            self.log.event("resumed", {"epoch": start.epoch, "step": start.step})
        callbacks: list[Callback] = []
        if world.is_main:
            callbacks += [
                EvaluationCallback(world.say, start.best_dice),
                LostNumbers(world.say, config.loader, session.shard),
            ]
        if config.checkpoint.path and world.is_main:
            prepare(config.checkpoint.path, continued=path)
        if config.untimed_warmup_steps:
            warm_up_training(session, state, config.untimed_warmup_steps)
            if not config.eval_ranks:
                warm_up_evaluation(session, unwrapped(state.model))
        barrier(self.everybody)
        check_init_time(config, time.monotonic() - begin)
        self.log.end("init_stop")

        self.log.start("run_start")
        status = "aborted"
        try:
            with ExitStack() as stack:
                outcome = self._on_the_clock(start, path, callbacks, stack)
                status = "success" if outcome.status == "reached" else "aborted"
                self.log.run_stop(status)
                # Diverged weights are no state to go on from; and a run with nothing left to do leaves its
                # checkpoint, which may know its place in mid-epoch, alone.
                if outcome.status != "diverged" and outcome.last_epoch >= start.epoch:
                    for callback in callbacks:
                        callback.on_fit_end(outcome.last_epoch, state)
        finally:
            self.log.run_stop(status)
        if abs(step := self.log.clock.set_by()) > _CLOCK_SET_S:
            world.say(
                f"warning: the system's clock was set by {step:+.1f} s during the run; times in the log are "
                "those of a clock that was not"
            )
        barrier(self.everybody)
        return outcome

    def _on_the_clock(
        self, start: Start, path: Path | None, callbacks: list[Callback], stack: ExitStack
    ) -> Outcome:
        session, world, log = self.session, self.session.world, self.log
        config = session.config
        if config.mlperf.division == "closed" and world.is_main:
            preflight.insist_unchanged(config)
        if self.channel:
            self.channel.start_clock()
        train_samples, eval_samples = dataset_sizes(config.loader)
        log.event("train_samples", train_samples)
        log.event("eval_samples", eval_samples)
        stream = data_loader.fingerprint(config.loader, session.shard, world.device)
        if path:
            check_stream(start, stream, path, world.say)
        saving = None
        if config.checkpoint.path and world.is_main:
            writer = CheckpointWriter(config.checkpoint.path, config.checkpoint.keep, world.say)
            stack.callback(writer.close)
            saving = CheckpointCallback(writer, config.seed, start.best, stream=stream)
            callbacks.append(saving)
        position = Position(start.epoch, start.step * config.loader.ga_steps)
        loader = stack.enter_context(
            closing(data_loader.build(config.loader, session.shard, world.device, position))
        )
        world.say(f"data: {loader.description}")
        if config.loader.on_bad_case == "skip":
            callbacks.append(bad_cases := BadCases(loader, world, log))
            stack.callback(bad_cases.say_summary)
        plan = _plan(session, start, len(loader) // config.loader.ga_steps)
        log.event("samples_per_epoch", plan.samples_per_epoch)
        keeper = Keeper(
            world,
            self.signals,
            saves=config.checkpoint.path is not None,
            saving=saving,
            every=config.checkpoint.every,
        )
        with self.signals.heeded():
            evaluations = _evaluations(session, self.channel, callbacks, log, stack, self.signals)
            outcome = train(
                self.state, loader, evaluations, plan, callbacks, log, world, keeper, config.verbose
            )
        keeper.close()
        return outcome


def _plan(session: Session, start: Start, steps: int) -> TrainingPlan:
    """What is done in epochs of ``steps`` steps."""
    config, world = session.config, session.world
    losses = start.losses_of(world.rank, world.size)
    if start.step >= steps and start.step != len(losses):
        raise RunError(
            f"the checkpoint was left after step {start.step} of an epoch of {steps}: other settings?"
        )
    samples_per_epoch = steps * session.global_batch_size
    return TrainingPlan(
        epochs=config.epochs,
        steps_per_epoch=steps,
        samples_per_epoch=samples_per_epoch,
        learning_rate=config.learning_rate,
        evaluation=config.evaluation or mlperf_evaluation(samples_per_epoch),
        quality_threshold=config.quality_threshold,
        first_epoch=start.epoch,
        first_step=start.step,
        first_losses=losses,
        best_dice=start.best_dice,
    )


def _evaluations(
    session: Session,
    channel: Channel | None,
    callbacks: list[Callback],
    log: RunLog,
    stack: ExitStack,
    signals: Signals,
) -> Evaluations:
    """As this rank of the training ranks takes part in them."""
    if not session.config.eval_ranks:
        loader = data_loader.build_evaluation(session.config.loader, session.shard, session.world.device)
        stack.callback(loader.close)
        return InTurn(session.evaluator(loader, lambda: signals.received), log)
    if channel is None:
        return Elsewhere()
    stack.callback(channel.stop)
    return Beside(channel, log, keep_states=any(callback.keeps_states for callback in callbacks))
