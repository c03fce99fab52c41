"""Who is timed on the CPU: our step, by flags of ``main.py``, and the MLPerf reference's."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.peers.mlperf_step import ReferenceStep
from pipelines.base import Batch
from runtime.arguments import parse_arguments
from runtime.distributed_utils import World
from runtime.session import Session
from runtime.training import train_step

REFERENCE = "reference"
OURS: dict[str, tuple[str, ...]] = {
    "ours": ("--layout", "NDHWC", "--fused", "off"),
    "ours-native": ("--layout", "NCDHW", "--fused", "native"),
    "ours-recompute": ("--layout", "NDHWC", "--fused", "off", "--recompute_norm"),
}
"""Flags of each."""
CONTENDERS = (REFERENCE, *OURS)
_BLOCK = 8
"""Edge of a block of equal labels, in voxels; a patch of kidneys is not noise either."""
_BATCHES = 2
"""Different ones, in turn."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all contenders train alike."""

    reference_dir: Path
    filters: tuple[int, ...]
    patch: int
    """Voxels along each edge."""
    batch_size: int
    learning_rate: float
    seed: int

    def to_json(self) -> str:
        """For `from_json` in another process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """What `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        fields |= {"reference_dir": Path(fields["reference_dir"]), "filters": tuple(fields["filters"])}
        return cls(**fields)

    def batches(self) -> list[Batch]:
        """Random images and blocks of random labels: the same from the same seed."""
        source = torch.Generator().manual_seed(self.seed)
        size = (self.batch_size, 1, *(self.patch,) * 3)
        blocks = (self.batch_size, 1, *(-(-self.patch // _BLOCK),) * 3)
        made = []
        for _ in range(_BATCHES):
            label = torch.randint(0, 3, blocks, generator=source).to(torch.uint8)
            for axis in (2, 3, 4):
                label = label.repeat_interleave(_BLOCK, dim=axis)
            label = label[:, :, : self.patch, : self.patch, : self.patch].contiguous()
            made.append(Batch(torch.randn(size, generator=source), label))
        return made


def prepare(
    name: str, task: Task, weights: Mapping[str, Tensor]
) -> tuple[nn.Module, Callable[[Iterator[Batch]], None]]:
    """The contender's loss, to listen at, and what trains it on batches until there are no more.

    Args:
        name: One of ``CONTENDERS``.
        task: What is trained.
        weights: The network's ``state_dict``, before the first step.

    Raises:
        RunError, OSError: It cannot run here.
    """
    return _reference(task, weights) if name == REFERENCE else _ours(OURS[name], task, weights)


def _reference(
    task: Task, weights: Mapping[str, Tensor]
) -> tuple[nn.Module, Callable[[Iterator[Batch]], None]]:
    step = ReferenceStep(task.reference_dir)
    network, loss = step.network(task.filters), step.loss()
    network.load_state_dict(weights)

    def train(batches: Iterator[Batch]) -> None:
        step.train(network, loss, batches, task.learning_rate)

    return loss, train


def _ours(
    flags: tuple[str, ...], task: Task, weights: Mapping[str, Tensor]
) -> tuple[nn.Module, Callable[[Iterator[Batch]], None]]:
    shape = [str(task.patch)] * 3
    config = parse_arguments(
        [
            *("--data_dir", ".", "--loader", "synthetic", "--seed", str(task.seed), *flags),
            *("--batch_size", str(task.batch_size), "--filters", *map(str, task.filters)),
            *("--input_shape", *shape, "--val_input_shape", *shape),
            *("--learning_rate", str(task.learning_rate), "--optimizer_backend", "torch"),
        ]
    )
    session = Session.of(config, World(torch.device("cpu")))
    model = session.model()
    model.load_state_dict(weights)
    state = session.state(model)
    state.model.train()

    def train(batches: Iterator[Batch]) -> None:
        with contextlib.suppress(StopIteration):
            while True:
                train_step(state, batches)

    return state.loss_fn, train
