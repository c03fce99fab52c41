"""``main.py`` with what it does written down: ``python -m benchmark.chaos.child TRACE FLAGS...``.

Each rank appends to a file of its own, ``TRACE.rank``, each line in one write, so that what is there when the
process is killed is whole. `benchmark.chaos.traces` has the form of the lines.
"""

import hashlib
import os
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import runtime.training
from benchmark.environment import ROOT
from pipelines import data_loader
from pipelines.base import Batch
from runtime.callbacks import EvaluationCallback
from runtime.distributed_utils import local_rank_of_launcher


class Journal:
    """Lines of words, appended to a file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, *words: object) -> None:
        """Append a line."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


class Hashed(Iterator[Batch]):
    """Batches on their way to a step, with the hash of all of them."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self._hash = batches, hashlib.blake2b(digest_size=8)

    def __next__(self) -> Batch:
        batch = next(self._batches)
        for tensor in batch:
            self._hash.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def digest(self) -> str:
        """Of the batches taken so far."""
        return self._hash.hexdigest()


class Place:
    """Epoch and step, counted along."""

    def __init__(self) -> None:
        self.epoch, self.step, self._steps_per_epoch = 1, 0, 0

    def begin(self, epoch: int, step: int, steps_per_epoch: int) -> None:
        """``step`` steps of ``epoch`` are behind us."""
        self.epoch, self.step, self._steps_per_epoch = epoch, step, steps_per_epoch

    def advance(self) -> None:
        """A step is done: it becomes the current one."""
        if self.step == self._steps_per_epoch:
            self.epoch, self.step = self.epoch + 1, 0
        self.step += 1


def write_down(journal: Journal) -> None:
    """Have this process's loader, steps, epochs and evaluations leave lines in ``journal``."""
    place = Place()
    build, train_step = data_loader.build, runtime.training.train_step
    on_evaluation = EvaluationCallback.on_evaluation

    def traced_build(config: Any, shard: Any, device: Any, start: Any = data_loader.BEGINNING) -> Any:
        loader = build(config, shard, device, start)
        steps = len(loader) // config.ga_steps
        place.begin(start.epoch, start.step // config.ga_steps, steps)
        journal.write("start", place.epoch, place.step, steps)
        return loader

    def traced_step(state: Any, batches: Iterator[Batch]) -> Tensor:
        hashed = Hashed(batches)
        loss = train_step(state, hashed)
        place.advance()
        value = float(loss).hex()
        journal.write("step", place.epoch, place.step, hashed.digest(), value, f"{time.monotonic():.4f}")
        return loss

    def traced_epoch(self: EvaluationCallback, epoch: int, train_loss: float) -> None:
        journal.write("epoch", epoch, float(train_loss).hex())

    def traced_evaluation(
        self: EvaluationCallback, epoch: int, result: Any, train_loss: float, state: Any
    ) -> None:
        values = (float(value).hex() for value in (result.mean_dice, result.loss, train_loss))
        journal.write("score", epoch, *values, f"{time.monotonic():.4f}")
        on_evaluation(self, epoch, result, train_loss, state)

    data_loader.build = traced_build
    runtime.training.train_step = traced_step
    EvaluationCallback.on_epoch_end = traced_epoch  # type: ignore[method-assign, assignment]
    EvaluationCallback.on_evaluation = traced_evaluation  # type: ignore[method-assign]


if __name__ == "__main__":
    trace = Path(sys.argv[1])
    own = Journal(trace.with_name(f"{trace.name}.{local_rank_of_launcher()}"))
    write_down(own)
    sys.argv = [str(ROOT / "main.py"), *sys.argv[2:]]
    own.write("begin", os.getpid(), f"{time.monotonic():.4f}")
    runpy.run_path(sys.argv[0], run_name="__main__")
