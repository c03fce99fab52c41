"""What the log of a run says about the submission that it is part of."""

from runtime.arguments import RunConfig
from runtime.errors import RunError
from runtime.logging import RunLog
from runtime.session import Session

MOST_INIT_SECONDS = 30 * 60
"""From init_start to init_stop in the closed division (mlperf_logging's compliance checker)."""


def log_submission(log: RunLog, session: Session) -> None:
    """The events that identify the run and its hyperparameters."""
    config = session.config
    ranks = session.world.size + config.eval_ranks
    log.event("submission_benchmark", "unet3d")
    log.event("submission_org", config.mlperf.org)
    log.event("submission_division", config.mlperf.logged_division)
    log.event("submission_status", config.mlperf.status)
    log.event("submission_platform", config.mlperf.logged_platform(ranks, session.world.device.type))
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


def check_init_time(config: RunConfig, seconds: float) -> None:
    """Refuse to go on where getting ready has taken longer than the closed division allows.

    Raises:
        RunError: It has.
    """
    if config.mlperf.division == "closed" and seconds > MOST_INIT_SECONDS:
        raise RunError(
            f"getting ready took {seconds / 60:.0f} minutes, and the closed division allows "
            f"{MOST_INIT_SECONDS // 60}: lower --untimed_warmup_steps or --cudnn_benchmark_limit"
        )
