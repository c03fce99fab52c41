"""Evaluations by themselves: of a checkpoint, or of what training ranks send."""

from contextlib import closing

from pipelines import data_loader
from runtime.arguments import RunConfig
from runtime.checkpoint import load_model, read_checkpoint
from runtime.distributed_utils import World, barrier
from runtime.eval_ranks import Channel
from runtime.inference import EvalResult
from runtime.session import Session
from runtime.warmup import warm_up_evaluation


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


def evaluate_beside(config: RunConfig, world: World, place: World, channel: Channel) -> None:
    """What a rank does that only evaluates: every network that rank 0 sends, until there are no more.

    Args:
        config: With the run's seed drawn.
        world: All ranks, which wait for each other before the clock and at the end.
        place: This rank among those that evaluate.
        channel: To rank 0.

    Raises:
        RunError: Rank 0 has ended without a word.
    """
    session = Session.of(config, place)
    model = session.model()
    session.check(model, session.windows_shape)
    if config.untimed_warmup_steps:
        warm_up_evaluation(session, model)
    barrier(world)
    channel.wait_for_clock()
    loader = data_loader.build_evaluation(session.config.loader, session.shard, place.device)
    with closing(loader):
        evaluator = session.evaluator(loader)
        for network in channel.networks(model):
            result = evaluator(network)
            if place.rank == 0:
                channel.answer(result)
    barrier(world)
