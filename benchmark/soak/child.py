"""``main.py`` with the number of its steps kept in a file: ``python -m benchmark.soak.child FILE FLAGS...``.

The number is written over the one before, eight bytes, so that the file does not grow with the run.
"""

import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

import runtime.training
from benchmark.environment import ROOT
from pipelines.base import Batch


def count_steps(path: Path) -> None:
    """Have every optimiser step of this process counted in ``path``."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    train_step, done = runtime.training.train_step, 0

    def counted(state: Any, batches: Iterator[Batch]) -> Tensor:
        nonlocal done
        loss = train_step(state, batches)
        done += 1
        os.pwrite(file, done.to_bytes(8, "little"), 0)
        return loss

    runtime.training.train_step = counted


def steps_in(path: Path) -> int:
    """What was counted there so far."""
    return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0


if __name__ == "__main__":
    count_steps(Path(sys.argv[1]))
    sys.argv = [str(ROOT / "main.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
