"""Logs of runs that never were, written by the real logger on a clock of their own."""

import random
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from model.unet3d import Unet3D
from runtime.arguments import parse_arguments
from runtime.logging import RunLog
from runtime.mlperf_arguments import in_samples
from runtime.rcp import load_rcps
from runtime.schedule import blocks, mlperf_evaluation
from runtime.session import Session
from runtime.submission_log import log_submission
from tests.unit.benchmark.spoilings import edited, places

CASES = 168
BATCH = 56
START_MS = 1_700_000_000_000
IMAGES_PER_S = 560.0
EVALUATION_S = 1.7
SEED = 2
"""Of the draws: forty of them pass the RCP check of ruleset 4.0.0, and converge more slowly than its mean."""


class Clock:
    """Milliseconds since 1970 that pass when told to."""

    def __init__(self) -> None:
        self.ms = float(START_MS)

    def __call__(self) -> int:
        return int(self.ms)

    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.ms += 1000 * seconds


def drawn(count: int = 40, seed: int = SEED, ruleset: str = "4.0.0") -> list[int]:
    """Epochs to convergence, drawn from the runs of a reference point and rounded up to MLPerf's schedule."""
    (point,) = (point for point in load_rcps(ruleset) if point.batch_size == BATCH)
    unit = CASES if in_samples(ruleset) else 1
    draws = random.Random(seed).choices(point.runs, k=count)
    return [max(1000, 20 * ceil(run / unit / 20)) for run in draws]


@lru_cache(maxsize=1)
def _network() -> Unet3D:
    return Unet3D(1, 3)


def forge(
    path: Path,
    *,
    seed: int = 1,
    epochs: int = 2000,
    converges: bool = True,
    ruleset: str = "4.0.0",
    batch_size: int = BATCH,
    flags: Sequence[str] = (),
) -> Path:
    """A run of 8 ranks that converges after ``epochs`` epochs, or ends there unconverged.

    ``flags`` are further ones of main.py. Initialisation takes 30 s, evaluations ``EVALUATION_S`` each.
    """
    config = parse_arguments(
        [
            "--data_dir", "/data", "--seed", str(seed), "--batch_size", str(batch_size // 8),
            "--learning_rate", "2.0", "--lr_warmup_epochs", "1000", "--mlperf_division", "closed",
            "--mlperf_ruleset", ruleset, *flags,
        ]
    )  # fmt: skip
    session = cast(
        Session,
        SimpleNamespace(
            config=config,
            world=SimpleNamespace(size=8, device=SimpleNamespace(type="cuda")),
            global_batch_size=batch_size,
        ),
    )
    clock = Clock()
    with patch("runtime.clock.SteadyClock.milliseconds", lambda steady: clock()):
        log = RunLog(path, ruleset)
        log.event("cache_clear", True)
        log.start("init_start")
        log_submission(log, session)
        log.weights_initialized(_network())
        clock.wait(30)
        log.end("init_stop")
        log.start("run_start")
        _train(log, clock, epochs, converges)
        log.run_stop("success" if converges else "aborted")
    return path


def _train(log: RunLog, clock: Clock, epochs: int, converges: bool) -> None:
    log.event("train_samples", CASES)
    log.event("eval_samples", 42)
    log.event("samples_per_epoch", CASES)
    for block in blocks(1, epochs, mlperf_evaluation(CASES)):
        with log.block(block.epochs, CASES):
            clock.wait(len(block.epochs) * CASES / IMAGES_PER_S)
            log.tracked_stats(block.epochs[0], IMAGES_PER_S, 1.0, 2.0)
        last = block.epochs[-1]
        if block.evaluates:
            log.evaluation_start(last, last * CASES)
            clock.wait(EVALUATION_S)
            log.evaluation_stop(last, last * CASES, 0.909 if converges and last == epochs else 0.905)


def forge_set(folder: Path, epochs: Sequence[int], **changed: Any) -> Path:
    """A folder with result_<i>.txt for each of ``epochs``, with seeds of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, last in enumerate(epochs):
        forge(folder / f"result_{i}.txt", seed=1000 + i, epochs=last, **changed)
    return folder


def copied(path: Path, lines: Sequence[str], *, epochs: int, ruleset: str = "4.0.0", **values: Any) -> Path:
    """A copy of a log that says it converged after ``epochs`` epochs, with ``values`` of other keys.

    Faster than to forge one; its evaluations are not on MLPerf's schedule.
    """
    copy = list(lines)
    for key, value in values.items():
        (place,) = places(copy, key)
        copy = edited(copy, place, lambda event, value=value: event.update(value=value))
    place = places(copy, "eval_accuracy")[-1]
    unit = CASES if in_samples(ruleset) else 1
    copy = edited(copy, place, lambda event: event["metadata"].update(epoch_num=epochs * unit))
    path.write_text("".join(f"{line}\n" for line in copy))
    return path
