#!/usr/bin/env python3
"""Train (to a mean Dice of 0.908), evaluate or benchmark MLPerf U-Net3D; see ``main.py --help``."""

import faulthandler
import os
import signal
import sys
import time
from dataclasses import asdict

# Before torch is loaded: it would tell in forty lines what one of ours says of a rank that is gone.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch

from benchmark.dataset_identity import data_of
from benchmark.disturbances import Disturbances
from benchmark.record import Record, write_record
from pipelines.errors import DataError
from preprocess.untrusted import printable_lines
from runtime.arguments import RunConfig, parse_arguments
from runtime.distributed_utils import World, join_world, local_rank_of_launcher
from runtime.errors import RunError, Stopped
from runtime.evaluation_run import run_evaluation
from runtime.files import set_aside
from runtime.rank_watch import watched
from runtime.run import run_training
from runtime.signals import Signals
from runtime.throughput import benchmark_evaluation, benchmark_training

DIVERGED = 3
"""Exit status of a run that diverged: a run all the same, that did not converge."""


def benchmark(config: RunConfig, world: World) -> int:
    """Print a throughput and write it to ``--log_dir``."""
    measure = benchmark_training if config.exec_mode == "train" else benchmark_evaluation
    disturbances, begin = Disturbances(world.device), time.monotonic()
    disturbances.start()
    found = measure(config, world)
    if world.is_main:
        disturbed = disturbances.stop(time.monotonic() - begin)
        path = config.log_dir / "benchmark.json"
        loader = config.loader
        reads = loader.loader != "synthetic"
        data = data_of(loader.data_dir, loader.evaluation_cases) if reads else {}
        record = Record(
            suite=f"benchmark-{config.exec_mode}",
            command=sys.argv,
            config=asdict(config) | {"world_size": world.size, "device": str(world.device)},
            results=found.values | data | {"disturbances": disturbed},
        )
        try:
            set_aside(path)
            write_record(record, path)
        except OSError as error:
            raise RunError(f"{path} cannot be written ({error.strerror}); check --log_dir") from error
        warnings = [f"warning: {sentence}" for sentence in disturbed]
        print(f"record: {path}", *warnings, *found.lines, sep="\n", flush=True)
    if found.interrupted:
        raise KeyboardInterrupt
    return 0


def evaluate(config: RunConfig, world: World) -> int:
    """Print the scores of a checkpoint."""
    result = run_evaluation(config, world)
    if world.is_main:
        for name, value in result.as_reference_metrics().items():
            print(f"{name} {value:.6f}")
        print(f"cases {result.num_cases}", flush=True)
    return 0


def train(config: RunConfig, world: World, signals: Signals) -> int:
    """Train, or evaluate beside it; fails only where the run diverged."""
    outcome = run_training(config, world, signals)
    if outcome is None:
        return 128 + signals.received if signals.received else 0
    score = f": mean Dice {outcome.result.mean_dice:.4f}" if outcome.result else ""
    world.say(f"{outcome.status} after epoch {outcome.last_epoch}{score}")
    return DIVERGED if outcome.status == "diverged" else 0


def complain(sentence: str) -> None:
    """Say on standard error, in one write: ranks share it, and their lines must not run into each other."""
    sys.stderr.write(f"main.py: {printable_lines(sentence)}\n")


def act(config: RunConfig, signals: Signals) -> int:
    """What the command line asks for, among all ranks."""
    with join_world(config.local_rank) as world, watched(world, config.rank_timeout, signals):
        if config.benchmark:
            return benchmark(config, world)
        if config.exec_mode == "train":
            return train(config, world, signals)
        return evaluate(config, world)


def status_of(config: RunConfig, signals: Signals) -> int:
    """Run what the command line asks for; the exit status, with a sentence where it is not 0."""
    try:
        return act(config, signals)
    except (DataError, RunError) as error:
        complain(f"error: {error}")
        return 1
    except torch.OutOfMemoryError as error:
        complain(f"error: out of GPU memory: {str(error).splitlines()[0]}")
        return 1
    except Stopped as stopped:
        nothing = "" if config.checkpoint.path else "; nothing was saved, for want of --save_ckpt_path"
        complain(f"stopped by {signal.Signals(stopped.signal).name}{nothing}")
        return 128 + stopped.signal
    except KeyboardInterrupt:
        complain("interrupted")
        return 128 + signal.SIGINT
    except SystemExit:
        if not signals.received:
            raise
        complain(f"ended by {signal.Signals(signals.received).name}")
        return 128 + signals.received


def main() -> int:
    """Run; the exit status."""
    signals = Signals()
    signals.install()
    faulthandler.enable()  # a disk that fails under a mapped file kills, but not without a word
    config = parse_arguments(local_rank=local_rank_of_launcher())
    status = status_of(config, signals)
    signals.stand_down(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
