"""What the closed division fixes of a run's settings, and what it leaves free.

From training_rules.adoc of mlcommons/training_policies: the tables of unet3d in its appendix of deprecated
benchmarks for v4.0, the last round that had it. What no table names is fixed to the reference.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from model.unet3d import MLPERF_FILTERS
from runtime.arguments import CUBE, RunConfig
from runtime.preflight.finding import Finding, State

TARGET = 0.908
"""Mean Dice (Deprecated benchmarks models and quality targets)."""

_HYPERPARAMETERS = "Deprecated benchmarks hyperparameters"
_MODEL = "Graph Definition"


def setting_findings(config: RunConfig) -> list[Finding]:
    """The rules that need nothing but the settings."""
    return [*_fixed_settings(config), *_free_settings(config)]


def caches_finding(cleared: str | None) -> Finding:
    """The rule on the machine's caches, which the launcher drops; None: it has not come to that yet."""
    found = {"yes": "dropped", "refused": "not permitted", "unknown": "not dropped"}
    return Finding(
        rule="caches",
        required="dropped before the run",
        found=found[cleared] if cleared else "looked at when the run starts",
        state=State.OK if cleared in (None, "yes") else State.OFF,
        remedy="start it by a launcher that may write /proc/sys/vm/drop_caches",
        source="Data State at Start of Run",
    )


def _fixed_settings(config: RunConfig) -> Iterator[Finding]:
    loader = config.loader
    yield _fixed("mode", "exec_mode", "train", config.exec_mode, "Run Results")
    yield _fixed("timing of steps", "benchmark", False, config.benchmark, "Run Results")
    yield Finding(
        rule="start",
        required="from initial weights",
        found=f"--resume {config.checkpoint.resume}" if config.checkpoint.resume else "from initial weights",
        state=State.OFF if config.checkpoint.resume else State.OK,
        remedy="drop --resume or --load_ckpt_path: a run that goes on after another is no time to train",
        source="Run Results",
    )
    yield _fixed("bad cases", "on_bad_case", "stop", loader.on_bad_case, "Data Set")
    yield _fixed("target", "quality_threshold", TARGET, config.quality_threshold, "Closed Division")
    yield _fixed("optimizer", "optimizer", "sgd", config.optimizer.name, _HYPERPARAMETERS)
    yield _fixed("oversampling", "oversampling", 0.4, loader.oversampling, _HYPERPARAMETERS)
    yield _fixed("training shape", "input_shape", CUBE, loader.input_shape, _HYPERPARAMETERS)
    yield _fixed("evaluation shape", "val_input_shape", CUBE, loader.val_input_shape, _HYPERPARAMETERS)
    yield _fixed("evaluation overlap", "overlap", 0.5, config.overlap, _HYPERPARAMETERS)
    yield _fixed("channels", "filters", MLPERF_FILTERS, config.filters, _MODEL)
    yield _fixed("normalization", "normalization", "instancenorm", config.normalization, _MODEL)
    yield _fixed("activation", "activation", "relu", config.activation, _MODEL)
    yield _fixed(
        "background in Dice", "include_background", False, config.include_background, "Loss function"
    )
    yield _fixed("brightness", "brightness", "reference", loader.brightness, "Preprocessing During the Run")
    yield Finding(
        rule="loader",
        required="reads the data set",
        found=loader.loader,
        state=State.OFF if loader.loader == "synthetic" else State.OK,
        remedy="pass --loader dali or pytorch",
        source="Closed Division",
    )
    yield Finding(
        rule="container",
        required="its digest, or none",
        found=config.mlperf.container or "not said",
        state=State.OK if config.mlperf.container else State.OFF,
        remedy="pass --mlperf_container sha256:... (docker image inspect), or none outside any",
        source="System and framework must be consistent",
    )


def _free_settings(config: RunConfig) -> Iterator[Finding]:
    yield _optimizer_implementation(config)
    rate = config.learning_rate
    decay = f"x {rate.decay_factor:g} after {_text(rate.decay_epochs)}" if rate.decay_epochs else "none"
    yield Finding(
        rule="hyperparameters",
        required="any, the same in all runs",
        found=f"learning rate {rate.base:g} from {rate.initial:g} over {rate.warmup_epochs} epochs, decay "
        f"{decay}, momentum {config.optimizer.momentum:g}, weight decay {config.optimizer.weight_decay:g}",
        source=_HYPERPARAMETERS,
    )
    yield Finding(
        rule="precision",
        required="fp32, tf32, fp16 or bfloat16",
        found=_precision(config),
        source="Numerical formats",
    )
    kept = config.loader.data_cache
    yield Finding(
        rule="data cache",
        required="empty when the clock starts",
        found="none" if kept == "none" else f"{kept}, filled as the run reads",
        source="Run Results",
    )
    mlperf = config.mlperf
    platform = mlperf.platform or "ranks x device"
    yield Finding(
        rule="submission",
        required="as you name it",
        found=f"{mlperf.org}, {platform}, {mlperf.status}, ruleset {mlperf.ruleset}",
        source="submission_rules.adoc of mlcommons/policies",
    )


def _optimizer_implementation(config: RunConfig) -> Finding:
    """apex's FusedSGD is listed for other benchmarks, and has been accepted for this one (v3.0)."""
    listed = config.optimizer.backend == "torch" or config.speed.cuda_graph
    return Finding(
        rule="optimizer's implementation",
        required="torch.optim.SGD, or shown to be equivalent",
        found="torch.optim.SGD" if listed else f"{config.optimizer.backend}: may be apex's FusedSGD",
        state=State.OK if listed else State.WARNING,
        remedy="pass --optimizer_backend torch, or be ready to show the equivalence",
        source="Appendix: Examples of Compliant Optimizers",
    )


def _precision(config: RunConfig) -> str:
    parts = [f"{config.amp_dtype} beside float32" if config.amp else "float32 (tf32 where cuDNN takes it)"]
    kept = {
        "images": config.loader.image_dtype,
        "cache": config.loader.cache_dtype,
        "gradients between ranks": config.speed.ddp_gradient_dtype,
    }
    parts += [f"{what} {dtype}" for what, dtype in kept.items() if dtype not in ("float32", "stored")]
    return ", ".join(parts)


def _fixed(rule: str, flag: str, required: Any, found: Any, source: str) -> Finding:
    """A setting with one legal value, that of its flag."""
    remedy = f"drop --{flag}" if required is False else f"pass --{flag} {_text(required)}"
    state = State.OK if found == required else State.OFF
    return Finding(
        rule=rule, required=_text(required), found=_text(found), state=state, remedy=remedy, source=source
    )


def _text(value: Any) -> str:
    """As on the command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    return str(value)
