"""``main.py``, with every training batch written down: ``python tracing.py TRACE KILL_AT FLAGS...``

A line for each batch that the training loop takes: epoch, places, cases, hashes of image and label. When it
takes batch number KILL_AT, the program kills itself with SIGKILL.
"""

import hashlib
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines import data_loader  # noqa: E402
from pipelines.base import BadCase, Batch, Position, Shard, TrainLoader  # noqa: E402
from pipelines.config import LoaderConfig  # noqa: E402

TRACE, KILL_AT, FLAGS = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]


class Traced:
    def __init__(self, loader: TrainLoader, config: LoaderConfig, shard: Shard, start: Position) -> None:
        self._loader, self._steps = loader, data_loader.schedule(config, shard).steps(start)
        self.description = loader.description

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        with TRACE.open("a", encoding="utf-8") as trace:
            for number, (batch, step) in enumerate(zip(self._loader, self._steps, strict=True), start=1):
                if number == KILL_AT:
                    os.kill(os.getpid(), signal.SIGKILL)
                hashes = (hashlib.sha256(tensor.contiguous().numpy()).hexdigest()[:16] for tensor in batch)
                print(step.epoch, step.positions, step.cases, *hashes, file=trace, flush=True)
                yield batch

    @property
    def bad_cases(self) -> tuple[BadCase, ...]:
        return self._loader.bad_cases

    def close(self) -> None:
        self._loader.close()


build = data_loader.build


def traced(config: LoaderConfig, shard: Shard, device: torch.device, start: Position) -> TrainLoader:
    return Traced(build(config, shard, device, start), config, shard, start)


if __name__ == "__main__":
    data_loader.build = traced  # type: ignore[assignment]
    sys.argv = ["main.py", *FLAGS]
    runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
