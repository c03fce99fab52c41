"""Ranks that only evaluate: who they are, and how weights get to them and scores back.

Weights go by a broadcast that rank 0 does not wait for. That they are on their way, and what came out, is
said through a key-value store that rank 0 holds: looking whether there are scores yet is a question to the
own process, and evaluation ranks may wait for the first weights longer than a collective's time limit.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from runtime.distributed_utils import World, store_of_rank_0, unwrapped
from runtime.errors import RunError
from runtime.inference import EvalResult

_PATIENCE = timedelta(seconds=1)
"""How long a wait may be deaf to signals."""

_STOP = "stop"


class Channel:
    """Between rank 0 and the evaluation ranks; one network is on its way at a time.

    Args:
        store: Held by rank 0.
        group: Rank 0, as its rank 0, and the evaluation ranks.
        device: Of this rank.
    """

    def __init__(self, store: dist.TCPStore, group: dist.ProcessGroup, device: torch.device) -> None:
        self._store, self._group, self._device = store, group, device
        self._sent = 0
        self._under_way: tuple[Any, list[Tensor]] | None = None

    def start_clock(self) -> None:
        """Rank 0: data may be touched from now on."""
        self._store.set("clock", "started")

    def wait_for_clock(self) -> None:
        """Evaluation ranks: until it may.

        Raises:
            RunError: Rank 0 has ended.
        """
        self._wait_for("clock")

    def send(self, model: nn.Module) -> None:
        """Rank 0: send weights and buffers as they are now, and go on.

        Raises:
            RuntimeError: The scores of those before have not been taken.
        """
        if self._under_way:
            raise RuntimeError("a network is still being evaluated")
        tensors = _tensors(model)
        flat = [torch.cat([tensor.reshape(-1) for tensor in tensors])]
        self._store.set(f"network {self._sent}", "sent")
        work = dist.broadcast(flat[0], group=self._group, group_src=0, async_op=True)
        self._under_way = work, flat

    def has_scores(self) -> bool:
        """Rank 0: whether `scores` would return at once."""
        return bool(self._store.check([f"scores {self._sent}"]))

    def scores(self) -> EvalResult:
        """Rank 0: the scores of the network that was sent; waits for them.

        An evaluation rank that has ended is noticed by its launcher, which ends this rank too.
        """
        if self._under_way is None:
            raise RuntimeError("no network was sent")
        found = self._wait_for(f"scores {self._sent}")
        self._under_way[0].wait()
        self._under_way = None
        self._sent += 1
        return EvalResult(**json.loads(found))

    def stop(self) -> None:
        """Rank 0: there will be no more; evaluation ranks end after what they are at."""
        after = self._sent + 1 if self._under_way else self._sent
        self._store.set(f"network {after}", _STOP)

    def networks(self, model: nn.Module) -> Iterator[nn.Module]:
        """Evaluation ranks: ``model`` with each network that is sent, until there are no more.

        Raises:
            RunError: Rank 0 has ended without a word.
        """
        while self._wait_for(f"network {self._sent}") != _STOP:
            tensors = _tensors(model)
            flat = torch.empty(sum(tensor.numel() for tensor in tensors), device=self._device)
            dist.broadcast(flat, group=self._group, group_src=0)
            for tensor, values in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(values.view_as(tensor))
            yield model
            self._sent += 1

    def answer(self, result: EvalResult) -> None:
        """The first of the evaluation ranks: the scores of the network that was sent last."""
        self._store.set(f"scores {self._sent}", json.dumps(asdict(result)))

    def _wait_for(self, key: str) -> str:
        while True:
            try:
                self._store.wait([key], _PATIENCE)
                return str(self._store.get(key).decode())
            except dist.DistNetworkError as error:
                raise RunError("rank 0 has ended, and with it the evaluation ranks' work") from error
            except dist.DistStoreError:
                continue  # not yet


def _tensors(model: nn.Module) -> list[Tensor]:
    """Weights and buffers, the same on all ranks, and no part of a graph."""
    plain = unwrapped(model)
    return [tensor.detach() for tensor in (*plain.parameters(), *plain.buffers())]


def divide(world: World, eval_ranks: int) -> tuple[World, Channel | None]:
    """Let the last ``eval_ranks`` ranks evaluate and the others train; to be called by all.

    Returns:
        This rank among those that do the same, and its channel: only rank 0 and the ranks that evaluate
        have one, where there are any.

    Raises:
        RunError: Nobody would be left to train.
    """
    if eval_ranks == 0:
        return world, None
    training = world.size - eval_ranks
    if training < 1:
        raise RunError(
            f"--eval_ranks {eval_ranks} of {world.size} ranks leaves none to train; start more, or lower it"
        )
    evaluators = list(range(training, world.size))
    trainers = list(range(training))
    groups = [dist.new_group(ranks) for ranks in (trainers, evaluators, [0, *evaluators])]
    train_group, eval_group, exchange = groups
    control = dist.new_group(trainers, backend="gloo")
    store = store_of_rank_0(world, joins=world.rank >= training)
    place = World(world.device, world.rank, training, train_group, control=control if training > 1 else None)
    if world.rank >= training:
        place = World(world.device, world.rank - training, eval_ranks, eval_group, quiet=True)
    return place, Channel(store, exchange, world.device) if store else None
