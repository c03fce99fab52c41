"""Which case comes when, and on which rank: pure functions of (cases, seed, epoch, shard).

The order of an epoch is one permutation, the same for all ranks. Global batch g is the slice
[g * world_size * batch_size, (g + 1) * world_size * batch_size) of it, and rank r takes the r-th part of
that slice. So W ranks with batch B consume, step for step, what one rank with batch W * B does.

With static sharding every rank has cases of its own for the whole run, and only their order is new in each
epoch: a rank's cache need not hold the others' cases, but the batches depend on the number of ranks.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from pipelines.base import Position, Shard
from pipelines.draw import Stream, random_bits
from pipelines.errors import DataError

LastBatch = Literal["drop", "pad"]
"""What becomes of the samples that do not fill a whole optimiser step at the end of an epoch."""

Sharding = Literal["global", "static"]
"""Whether an epoch's order runs over the cases of all ranks, or each rank keeps to its own."""

_IMAGE_NAME = re.compile(r"(case_(\d{5}))_x\.npy")


@dataclass(frozen=True)
class Case:
    """One preprocessed case: ``case_00003_x.npy`` and ``case_00003_y.npy``."""

    name: str
    """``case_00003``."""
    id: int
    image: Path
    """float32, 1 x D x H x W."""
    label: Path
    """uint8, 1 x D x H x W."""


class Step(NamedTuple):
    """What one rank reads in one step."""

    epoch: int
    positions: tuple[int, ...]
    """Consecutive places in the epoch's global order, beyond its end where the last batch is padded."""
    cases: tuple[int, ...]
    """Indices into the training cases, one for each position."""


def find_cases(data_dir: Path) -> tuple[Case, ...]:
    """All preprocessed cases in ``data_dir``, sorted by name.

    Raises DataError if the folder is missing or holds no case, or a case lacks its image or its label.
    """
    remedy = "run preprocess_dataset.py and pass its --results_dir as --data_dir"
    if not data_dir.is_dir():
        raise DataError(f"{data_dir} is not a folder: {remedy}")
    images = {match[1]: int(match[2]) for p in data_dir.iterdir() if (match := _IMAGE_NAME.fullmatch(p.name))}
    labels = {p.name.removesuffix("_y.npy") for p in data_dir.glob("case_*_y.npy")}
    if not images and not labels:
        raise DataError(f"no case_*_x.npy in {data_dir}: {remedy}")
    for name in sorted(images.keys() ^ labels):
        found, missing = ("x", "y") if name in images else ("y", "x")
        raise DataError(
            f"{data_dir / name}_{found}.npy has no {name}_{missing}.npy beside it: preprocess {name} again"
        )
    return tuple(
        Case(name, case_id, data_dir / f"{name}_x.npy", data_dir / f"{name}_y.npy")
        for name, case_id in sorted(images.items())
    )


def split(cases: Iterable[Case], evaluation_ids: frozenset[int]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """(training cases, evaluation cases): the latter are those whose id is in ``evaluation_ids``."""
    cases = tuple(cases)
    training = tuple(case for case in cases if case.id not in evaluation_ids)
    return training, tuple(case for case in cases if case.id in evaluation_ids)


def epoch_order(num_cases: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The permutation of ``range(num_cases)`` in which epoch ``epoch`` visits the cases; epoch 0 deals them
    to the ranks of a run with static sharding."""
    keys = random_bits(seed, epoch, Stream.ORDER, 0, num_cases)
    return tuple(np.argsort(keys, kind="stable").tolist())


def cases_of(shard: Shard, num_cases: int, seed: int, sharding: Sharding) -> tuple[int, ...]:
    """The cases that a rank will ever read, ascending."""
    if sharding == "global":
        return tuple(range(num_cases))
    return tuple(sorted(epoch_order(num_cases, seed, 0)[shard.rank :: shard.world_size]))


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The steps of every epoch for one rank.

    ``drop`` leaves out the samples that do not fill a last optimiser step of ``world_size * batch_size *
    ga_steps`` samples, as the reference does (its drop_last, and its training loop's modulo); with a new
    order each epoch they are others each time. ``pad`` fills that step from the head of the same order:
    a repeated case is drawn anew, since its position is its own.

    Raises DataError if there is nothing to train on, or ``drop`` would leave no step at all.
    Under static sharding a rank fills its steps from its own cases alone; the number of steps is the same.
    """

    num_cases: int
    shard: Shard
    batch_size: int
    ga_steps: int
    last_batch: LastBatch
    seed: int
    sharding: Sharding = "global"

    def __post_init__(self) -> None:
        if self.sharding not in get_args(Sharding):
            raise DataError(f"--sharding {self.sharding} is not one of {', '.join(get_args(Sharding))}")
        if self.sharding == "static" and self.num_cases < self.shard.world_size:
            raise DataError(
                f"--sharding static: {self.num_cases} training cases for {self.shard.world_size} ranks leave "
                "a rank without any: start fewer ranks, or use --sharding global"
            )
        if self.last_batch not in get_args(LastBatch):
            raise DataError(f"--last_batch {self.last_batch} is not one of {', '.join(get_args(LastBatch))}")
        if self.num_cases < 1:
            raise DataError(
                "no training case found: every case in --data_dir belongs to the evaluation split"
            )
        if self.steps_per_epoch == 0:
            raise DataError(
                f"{self.num_cases} training cases do not fill one step of {self.samples_per_step} samples "
                f"({self.shard.world_size} ranks x --batch_size {self.batch_size} x --ga_steps "
                f"{self.ga_steps}): lower --batch_size, or pass --last_batch pad to repeat cases"
            )

    @property
    def samples_per_step(self) -> int:
        """Samples that all ranks together consume in one optimiser step."""
        return self.shard.world_size * self.batch_size * self.ga_steps

    @property
    def steps_per_epoch(self) -> int:
        """Batches (micro-batches) per epoch and rank: a multiple of ``ga_steps``."""
        steps, rest = divmod(self.num_cases, self.samples_per_step)
        return (steps + (self.last_batch == "pad" and rest > 0)) * self.ga_steps

    @property
    def samples_per_epoch(self) -> int:
        """Samples that all ranks together consume in one epoch."""
        return self.steps_per_epoch * self.shard.world_size * self.batch_size

    def steps(self, start: Position) -> Iterator[Step]:
        """The endless stream of this rank's steps from ``start``; the order is new in each epoch."""
        epoch, first = start.epoch, start.step
        if not 0 <= first <= self.steps_per_epoch:
            raise DataError(
                f"step {first} is outside an epoch of {self.steps_per_epoch} steps: other settings?"
            )
        own = frozenset(cases_of(self.shard, self.num_cases, self.seed, self.sharding))
        while True:
            order = [case for case in epoch_order(self.num_cases, self.seed, epoch) if case in own]
            for step in range(first, self.steps_per_epoch):
                begin = (step * self.shard.world_size + self.shard.rank) * self.batch_size
                positions = range(begin, begin + self.batch_size)
                places = positions
                if self.sharding == "static":
                    places = range(step * self.batch_size, (step + 1) * self.batch_size)
                yield Step(epoch, tuple(positions), tuple(order[p % len(order)] for p in places))
            epoch, first = epoch + 1, 0


def balance(costs: Sequence[int], world_size: int) -> tuple[tuple[int, ...], ...]:
    """Share items among ranks so that the dearest share is cheap: indices for each rank, ascending.

    Longest processing time first (Graham, 1969): each item, dearest first, goes to the rank that has the
    least so far; at most 4/3 of the optimum. Ties go to the lower index, so every rank finds the same.
    """
    loads = [0] * world_size
    shares: list[list[int]] = [[] for _ in range(world_size)]
    for item in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = min(range(world_size), key=lambda r: (loads[r], len(shares[r]), r))
        loads[rank] += costs[item]
        shares[rank].append(item)
    return tuple(tuple(sorted(share)) for share in shares)
