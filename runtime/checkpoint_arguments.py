"""When checkpoints are kept and what a run goes on from: the flags and their values."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.loader_arguments import number
from runtime.schedule import SaveEvery


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """The checkpoints of a training run."""

    path: Path | None
    """Of the newest; None: none are kept."""
    keep: int
    """The newest and those before it."""
    every: SaveEvery
    resume: Path | Literal["auto"] | None
    """What to go on from; ``auto``: the newest of ``path``, or nothing where there is none."""

    @property
    def source(self) -> Path | None:
        """Where to look for a checkpoint to go on from."""
        return self.path if self.resume == "auto" else self.resume


def add_checkpoint_flags(group: Any) -> None:
    """Add them to a group of a parser."""
    add = group.add_argument
    add(
        "--save_ckpt_path", type=Path,
        help="file to keep the latest and the best state in: c.pth, with c.1.pth for the one before it",
    )  # fmt: skip
    add(
        "--load_ckpt_path", type=Path,
        help="checkpoint to evaluate (its best), or to go on training from, like --resume",
    )  # fmt: skip
    add(
        "--resume", type=lambda text: text if text == "auto" else Path(text), metavar="auto|FILE",
        help="checkpoint to go on training from, to the bit; auto takes the newest whole one of "
        "--save_ckpt_path, or begins anew where there is none",
    )  # fmt: skip
    add("--keep_checkpoints", type=number(int, 1), default=2, help="checkpoints to keep, the newest counted")
    add(
        "--save_every_steps", type=number(int, 1),
        help="optimiser steps between checkpoints, beside those after evaluations and at the end",
    )  # fmt: skip
    add("--save_every_epochs", type=number(int, 1), help="likewise, epochs")
    add("--save_every_minutes", type=number(float, 0.0, above=True), help="likewise, minutes")


def checkpoint_config(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> CheckpointConfig:
    """The checkpoints that the flags ask for; exits with one sentence where they do not go together."""
    training = flags.exec_mode == "train"
    if flags.benchmark and (flags.save_ckpt_path or flags.load_ckpt_path or flags.resume):
        parser.error(
            "--benchmark times fresh weights and keeps none: drop --save_ckpt_path, --load_ckpt_path and "
            "--resume"
        )
    if flags.resume and not training:
        parser.error("--resume is for training: --exec_mode evaluate takes --load_ckpt_path")
    if flags.resume and flags.load_ckpt_path:
        parser.error("--resume and --load_ckpt_path both say what to go on from: drop one")
    for name in ("save_every_steps", "save_every_epochs", "save_every_minutes"):
        if getattr(flags, name) and not flags.save_ckpt_path:
            parser.error(f"--{name} needs --save_ckpt_path, the file to save to")
    if flags.resume == "auto" and not flags.save_ckpt_path:
        parser.error("--resume auto needs --save_ckpt_path, whose newest checkpoint it takes")
    return CheckpointConfig(
        path=flags.save_ckpt_path,
        keep=flags.keep_checkpoints,
        every=SaveEvery(
            steps=flags.save_every_steps, epochs=flags.save_every_epochs, minutes=flags.save_every_minutes
        ),
        resume=flags.resume or (flags.load_ckpt_path if training else None),
    )
