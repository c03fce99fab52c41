"""Going on from a checkpoint: what of it is taken, and what the command line decides."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch.optim import Adam, Optimizer

from runtime.arguments import RunConfig
from runtime.checkpoint import load_model, read_checkpoint
from runtime.checkpoint_arguments import CheckpointConfig
from runtime.distributed_utils import World, broadcast, unwrapped
from runtime.errors import RunError
from runtime.generations import newest_whole
from runtime.state import TrainState


@dataclass(frozen=True)
class Start:
    """Where training begins; of a new run, at the beginning."""

    epoch: int = 1
    step: int = 0
    """Steps of ``epoch`` already done; all of them where its evaluation is not."""
    stream: dict[str, str] = field(default_factory=dict)
    """What decided about the continued run's samples; empty where its checkpoint does not say."""
    best: dict[str, Any] = field(default_factory=dict)
    """What the checkpoint says of the best state so far: its tensors, epoch and scores."""
    losses: tuple[tuple[float, ...], ...] = ()
    """Of the steps already done, for each rank that did them; empty where the checkpoint does not say."""

    def losses_of(self, rank: int, ranks: int) -> tuple[float, ...]:
        """Those of one rank of ``ranks``; of other numbers of ranks the mean, which is what counts."""
        if len(self.losses) == ranks:
            return self.losses[rank]
        return tuple(sum(step) / len(step) for step in zip(*self.losses, strict=True))

    @property
    def best_dice(self) -> float:
        """Mean Dice of the best state, 0 where there is none."""
        return float(self.best.get("mean_dice", 0.0))


def with_seed_of(checkpoint: dict[str, Any], config: RunConfig, say: Callable[[str], None]) -> RunConfig:
    """The configuration with the seed of the run that is continued, unless ``--seed`` asks for another.

    Raises:
        RunError: It does, for a run that was left in mid-epoch.
    """
    seed = checkpoint.get("seed")
    if seed is None or config.seed == seed:
        return config
    if config.seed == -1:
        return replace(config, seed=int(seed))
    if checkpoint.get("last_step"):
        raise RunError(
            f"--seed {config.seed} is not the continued run's {seed}, which was left in mid-epoch: the rest "
            "of that epoch needs its seed, so drop --seed"
        )
    say(f"note: --seed {config.seed} is not the continued run's {seed}, so its samples are other ones")
    return config


def find_checkpoint(config: CheckpointConfig, world: World) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that ``--resume`` asks for, and its content; None to begin anew.

    Rank 0 looks, and warns of damaged ones that are newer; every rank reads the one it found.

    Raises:
        RunError: There is none where one was named, or none that can be read.
    """
    if config.source is None:
        return None
    found: tuple[Path, dict[str, Any]] | None = None
    fault = ""
    if world.is_main:
        try:
            found = newest_whole(config.source, world.say)
        except RunError as error:
            fault = str(error)
    path, fault = broadcast((found[0] if found else None, fault), world)
    if fault:
        raise RunError(fault)
    if path is None:
        if config.resume == "auto":
            world.say(f"no checkpoint {config.source} to resume from: beginning anew")
            return None
        raise RunError(f"{config.source}: no such checkpoint; check --resume or --load_ckpt_path")
    return found or (path, read_checkpoint(path))


def restore(state: TrainState, checkpoint: dict[str, Any], path: Path) -> Start:
    """Put the last state of a checkpoint into ``state``; where training goes on.

    Hyperparameters stay those of the command line. A checkpoint of the MLPerf reference has no loss
    scaler's state (one starts anew) and no last epoch (the best's is taken, the only one it knows).

    Raises:
        RunError: The checkpoint holds no state to go on from, another network's or optimizer's, or what no
            version of this program has written.
    """
    missing = sorted({"last_model_state_dict", "last_optimizer_state_dict"} - set(checkpoint))
    if missing:
        raise RunError(f"{path}: has no {missing[0]} to go on from; it can only be evaluated")
    try:
        return _restore(state, checkpoint, path)
    except RunError:
        raise
    except Exception as error:  # a state dict may hold anything
        raise RunError(
            f"{path}: holds a state that no version of this program has written ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}); use another checkpoint"
        ) from error


def _restore(state: TrainState, checkpoint: dict[str, Any], path: Path) -> Start:
    load_model(unwrapped(state.model), checkpoint["last_model_state_dict"], path)
    _restore_optimizer(state.optimizer, checkpoint["last_optimizer_state_dict"], path)
    # A scaler that was off saved nothing.
    if checkpoint.get("last_scaler_state_dict") and state.scaler.is_enabled():
        state.scaler.load_state_dict(checkpoint["last_scaler_state_dict"])
    own = ("seed", "format_version", "stream")
    best = {k: v for k, v in checkpoint.items() if not k.startswith("last_") and k not in own}
    step = int(checkpoint.get("last_step", 0))
    losses = tuple(tuple(map(float, of_rank)) for of_rank in checkpoint.get("last_losses", ()))
    if any(len(of_rank) != step for of_rank in losses):
        raise ValueError(f"last_losses of other than {step} steps")
    return Start(
        int(checkpoint.get("last_epoch", checkpoint.get("epoch", 0))) + 1,
        step,
        dict(checkpoint.get("stream", {})),
        best,
        losses,
    )


def check_stream(start: Start, stream: dict[str, str], path: Path, say: Callable[[str], None]) -> None:
    """Say in what the samples of a continued run will differ from those of the run it continues.

    Raises:
        RunError: It was left in mid-epoch, and the rest of that epoch cannot be found with these settings.
    """
    differing = [
        f"{name} {theirs}, now {stream.get(name, 'none')}"
        for name, theirs in start.stream.items()
        if stream.get(name) != theirs
    ]
    if not differing:
        return
    if start.step:
        raise RunError(
            f"{path}: was written in mid-epoch with {'; '.join(differing)}: give the settings it was "
            "trained with"
        )
    say(f"note: {path} was trained with {'; '.join(differing)}: samples will be other ones")


def _state_names(optimizer: Optimizer) -> set[str]:
    """What the optimizer keeps for each parameter; torch's Adam alone counts steps there."""
    if "momentum" in optimizer.defaults:
        return {"momentum_buffer"}
    moments = {"exp_avg", "exp_avg_sq"}
    return moments | {"step"} if isinstance(optimizer, Adam) else moments


def _restore_optimizer(optimizer: Optimizer, saved: dict[str, Any], path: Path) -> None:
    """Load the moments (and the step that LAMB and apex count per group), not the hyperparameters."""
    for kept in saved["state"].values():
        if set(kept) != _state_names(optimizer):
            raise RunError(
                f"{path}: holds {', '.join(sorted(kept))} for each parameter, where this optimizer keeps "
                f"{', '.join(sorted(_state_names(optimizer)))}; give the --optimizer and "
                "--optimizer_backend it was trained with"
            )
    groups = []
    for own, theirs in zip(optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True):
        counted = {"step": theirs["step"]} if "step" in own and "step" in theirs else {}
        groups.append(own | counted | {"params": theirs["params"]})
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
