"""Training and evaluation runs as the command line asks for them."""

from pipelines import data_loader
from pipelines.base import Position
from pipelines.dataset import dataset_sizes
from runtime.arguments import RunConfig
from runtime.callbacks import Callback, CheckpointCallback, EvaluationCallback
from runtime.checkpoint import load_model, prepare_checkpoint, read_checkpoint
from runtime.distributed_utils import World, barrier
from runtime.inference import EvalResult
from runtime.logging import LOG_NAME, RunLog
from runtime.resume import Start, check_stream, restore, with_seed_of
from runtime.schedule import mlperf_evaluation
from runtime.session import Session
from runtime.state import TrainState
from runtime.training import Outcome, TrainingPlan, train


def log_submission(log: RunLog, session: Session) -> None:
    """The events that identify the run and its hyperparameters."""
    config = session.config
    log.event("submission_benchmark", "unet3d")
    log.event("submission_org", "voxelrate")
    log.event("submission_division", "closed")
    log.event("submission_status", "research")
    log.event("submission_platform", f"{session.world.size}x{session.world.device.type}")
    log.event("seed", config.seed)
    log.event("global_batch_size", session.global_batch_size)
    log.event("gradient_accumulation_steps", config.loader.ga_steps)
    log.event("opt_name", config.optimizer.name)
    log.event("opt_base_learning_rate", config.learning_rate.base)
    log.event("opt_initial_learning_rate", config.learning_rate.initial)
    log.event("opt_learning_rate_warmup_epochs", config.learning_rate.warmup_epochs)
    log.event("opt_learning_rate_decay_boundary_epochs", list(config.learning_rate.decay_epochs))
    log.event("opt_learning_rate_decay_factor", config.learning_rate.decay_factor)
    log.event("opt_weight_decay", config.optimizer.weight_decay)
    log.event("opt_momentum", config.optimizer.momentum)
    log.event("oversampling", config.loader.oversampling)
    log.event("training_input_shape", list(config.loader.input_shape))
    log.event("validation_input_shape", list(config.loader.val_input_shape))
    log.event("validation_overlap", config.overlap)


def run_training(config: RunConfig, world: World) -> Outcome:
    """Train as configured and log the run by MLPerf's rules.

    No data is touched before ``run_start``. A run that ends by an exception, as Ctrl-C and SIGTERM raise
    one, logs ``run_stop`` with status ``aborted`` all the same.
    """
    log = RunLog(config.log_dir / LOG_NAME) if world.is_main else RunLog()
    if config.caches_cleared == "yes":
        log.event("cache_clear", True)
    elif config.caches_cleared == "refused":
        log.event("cache_clear_not_permitted", True)
    log.start("init_start")
    checkpoint = None
    if config.load_ckpt_path:
        checkpoint = read_checkpoint(config.load_ckpt_path)
        config = with_seed_of(checkpoint, config, world.say)
    session = Session.of(config, world)
    world.say(f"MLPerf log: {config.log_dir / LOG_NAME}")
    log_submission(log, session)
    model = session.model()
    log.weights_initialized(model)
    session.check(model, session.windows_shape)
    state = session.state(model)
    start = Start()
    if checkpoint and config.load_ckpt_path:
        start = restore(state, checkpoint, config.load_ckpt_path)
        after = f" after its step {start.step}" if start.step else ""
        world.say(f"continuing {config.load_ckpt_path} with epoch {start.epoch}{after}")
    callbacks: list[Callback] = [EvaluationCallback(world.say, start.best_dice)] if world.is_main else []
    if config.save_ckpt_path and world.is_main:
        prepare_checkpoint(config.save_ckpt_path, keep=config.save_ckpt_path == config.load_ckpt_path)
    barrier(world)
    log.end("init_stop")

    log.start("run_start")
    status = "aborted"
    try:
        outcome = _train_on_data(session, state, start, callbacks, log)
        status = "success" if outcome.status == "reached" else "aborted"
    finally:
        log.end("run_stop", status=status)
    # Diverged weights are no state to go on from; and where no step was left to do, the checkpoint that was
    # loaded in mid-epoch knows its place better.
    if outcome.status != "diverged" and not (start.step and outcome.last_epoch < start.epoch):
        for callback in callbacks:
            callback.on_fit_end(outcome.last_epoch, state)
    return outcome


def _train_on_data(
    session: Session, state: TrainState, start: Start, callbacks: list[Callback], log: RunLog
) -> Outcome:
    config, world = session.config, session.world
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
    loader = data_loader.build(config.loader, session.shard, world.device, position)
    world.say(f"data: {loader.description}")
    eval_loader = data_loader.build_evaluation(config.loader, session.shard, world.device)
    try:
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
        evaluator = session.evaluator(eval_loader)
        return train(state, loader, evaluator, plan, callbacks, log, world, config.verbose)
    finally:
        loader.close()
        eval_loader.close()
        state.close()


def run_evaluation(config: RunConfig, world: World) -> EvalResult:
    """Evaluate the best state of a checkpoint (its last, and says so, where it has no best)."""
    session = Session.of(config, world)
    model = session.model()
    session.check(model, session.windows_shape)
    if config.load_ckpt_path is None:
        world.say("no --load_ckpt_path: evaluating a network with fresh random weights")
    else:
        checkpoint = read_checkpoint(config.load_ckpt_path)
        key = "best_model_state_dict"
        if key not in checkpoint:
            world.say(f"{config.load_ckpt_path} was written before any evaluation: taking its last state")
            key = "last_model_state_dict"
        load_model(model, checkpoint[key], config.load_ckpt_path)
    loader = data_loader.build_evaluation(session.config.loader, session.shard, world.device)
    try:
        return session.evaluator(loader)(model)
    finally:
        loader.close()
