"""Training runs as the command line asks for them."""

import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from pipelines import data_loader
from pipelines.base import Position
from pipelines.dataset import dataset_sizes
from runtime import preflight
from runtime.arguments import RunConfig
from runtime.callbacks import Callback, CheckpointCallback, EvaluationCallback
from runtime.checkpoint import prepare_checkpoint, read_checkpoint
from runtime.distributed_utils import World, barrier, resolve_seed, unwrapped
from runtime.eval_ranks import Channel, divide
from runtime.evaluation import Beside, Elsewhere, Evaluations, InTurn
from runtime.evaluation_run import evaluate_beside
from runtime.logging import LOG_NAME, RunLog
from runtime.resume import Start, check_stream, restore, with_seed_of
from runtime.schedule import mlperf_evaluation
from runtime.session import Session
from runtime.state import TrainState
from runtime.submission_log import check_init_time, log_submission
from runtime.training import Outcome, TrainingPlan, train
from runtime.warmup import warm_up_evaluation, warm_up_training


def run_training(config: RunConfig, world: World) -> Outcome | None:
    """Train as configured and log the run by MLPerf's rules; None on ranks that only evaluated.

    No data is touched before ``run_start``. A run that ends by an exception, as Ctrl-C and SIGTERM raise
    one, logs ``run_stop`` with status ``aborted`` all the same.

    Raises:
        RunError: The closed division was asked for, and the run is not legal there; or anything that keeps
            it from training.
    """
    if config.mlperf.division == "closed" and world.is_main:
        preflight.insist_closed(config, world.size)
    log = RunLog(config.log_dir / LOG_NAME, config.mlperf.ruleset) if world.is_main else RunLog()
    if config.caches_cleared == "yes":
        log.event("cache_clear", True)
    elif config.caches_cleared == "refused":
        log.event("cache_clear_not_permitted", True)
    log.start("init_start")
    begin = time.monotonic()
    checkpoint = None
    if config.load_ckpt_path:
        checkpoint = read_checkpoint(config.load_ckpt_path)
        config = with_seed_of(checkpoint, config, world.say)
    config = replace(config, seed=resolve_seed(config.seed, world))
    place, channel = divide(world, config.eval_ranks)
    if channel and not world.is_main:
        evaluate_beside(config, world, place, channel)
        return None
    session = Session.of(config, place)
    world.say(f"MLPerf log: {config.log_dir / LOG_NAME}")
    log_submission(log, session)
    model = session.model()
    log.weights_initialized(model)
    session.check(model, session.windows_shape)
    with closing(session.state(model)) as state:
        return _run(session, world, channel, state, checkpoint, log, begin)


def _run(
    session: Session,
    everybody: World,
    channel: Channel | None,
    state: TrainState,
    checkpoint: dict[str, Any] | None,
    log: RunLog,
    begin: float,
) -> Outcome:
    """What is left to get ready since ``begin``, on time.monotonic, and what the clock sees.

    ``everybody`` is all ranks, evaluation ranks among them.
    """
    config, world = session.config, session.world
    start = Start()
    if checkpoint and config.load_ckpt_path:
        start = restore(state, checkpoint, config.load_ckpt_path)
        after = f" after its step {start.step}" if start.step else ""
        world.say(f"continuing {config.load_ckpt_path} with epoch {start.epoch}{after}")
    callbacks: list[Callback] = [EvaluationCallback(world.say, start.best_dice)] if world.is_main else []
    if config.save_ckpt_path and world.is_main:
        prepare_checkpoint(config.save_ckpt_path, keep=config.save_ckpt_path == config.load_ckpt_path)
    if config.untimed_warmup_steps:
        warm_up_training(session, state, config.untimed_warmup_steps)
        if not config.eval_ranks:
            warm_up_evaluation(session, unwrapped(state.model))
    barrier(everybody)
    check_init_time(config, time.monotonic() - begin)
    log.end("init_stop")

    log.start("run_start")
    status = "aborted"
    try:
        outcome = _train_on_data(session, channel, state, start, callbacks, log)
        status = "success" if outcome.status == "reached" else "aborted"
    finally:
        log.run_stop(status)
    # Diverged weights are no state to go on from; and where no step was left to do, the checkpoint that was
    # loaded in mid-epoch knows its place better.
    if outcome.status != "diverged" and not (start.step and outcome.last_epoch < start.epoch):
        for callback in callbacks:
            callback.on_fit_end(outcome.last_epoch, state)
    barrier(everybody)
    return outcome


def _train_on_data(
    session: Session,
    channel: Channel | None,
    state: TrainState,
    start: Start,
    callbacks: list[Callback],
    log: RunLog,
) -> Outcome:
    config, world = session.config, session.world
    if config.mlperf.division == "closed" and world.is_main:
        preflight.insist_unchanged(config)
    if channel:
        channel.start_clock()
    train_samples, eval_samples = dataset_sizes(config.loader)
    log.event("train_samples", train_samples)
    log.event("eval_samples", eval_samples)
    stream = data_loader.fingerprint(config.loader, session.shard, world.device)
    if config.load_ckpt_path:
        check_stream(start, stream, config.load_ckpt_path, world.say)
    if config.save_ckpt_path and world.is_main:
        saving = CheckpointCallback(
            config.save_ckpt_path,
            config.seed,
            start.best,
            stream=stream,
            every_steps=config.save_every_steps,
        )
        callbacks.append(saving)
    position = Position(start.epoch, start.step * config.loader.ga_steps)
    with ExitStack() as stack:
        loader = stack.enter_context(
            closing(data_loader.build(config.loader, session.shard, world.device, position))
        )
        world.say(f"data: {loader.description}")
        steps = len(loader) // config.loader.ga_steps
        samples_per_epoch = steps * session.global_batch_size
        log.event("samples_per_epoch", samples_per_epoch)
        plan = TrainingPlan(
            epochs=config.epochs,
            steps_per_epoch=steps,
            samples_per_epoch=samples_per_epoch,
            learning_rate=config.learning_rate,
            evaluation=config.evaluation or mlperf_evaluation(samples_per_epoch),
            quality_threshold=config.quality_threshold,
            first_epoch=start.epoch,
            first_step=start.step,
            best_dice=start.best_dice,
        )
        evaluations = _evaluations(session, channel, callbacks, log, stack)
        return train(state, loader, evaluations, plan, callbacks, log, world, config.verbose)


def _evaluations(
    session: Session, channel: Channel | None, callbacks: list[Callback], log: RunLog, stack: ExitStack
) -> Evaluations:
    """As this rank of the training ranks takes part in them."""
    if not session.config.eval_ranks:
        loader = data_loader.build_evaluation(session.config.loader, session.shard, session.world.device)
        stack.callback(loader.close)
        return InTurn(session.evaluator(loader), log)
    if channel is None:
        return Elsewhere()
    stack.callback(channel.stop)
    return Beside(channel, log, keep_states=any(callback.keeps_states for callback in callbacks))
