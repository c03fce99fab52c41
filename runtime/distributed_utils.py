"""Ranks, devices and the few collectives a run needs. The one room file that reads the environment."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipelines.errors import DataError
from runtime.ddp import distributed
from runtime.errors import RunError

_T = TypeVar("_T")


@dataclass(frozen=True)
class World:
    """This process among all that train together, or among those that only evaluate."""

    device: torch.device
    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None
    """In which ``rank`` and ``size`` count; None: that of all processes."""
    quiet: bool = False
    """Whether somebody outside ``group`` speaks for all."""
    control: dist.ProcessGroup | None = None
    """The same ranks over Gloo, for words in host memory; None for a process alone."""

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for all: it prints, logs and writes files."""
        return self.rank == 0 and not self.quiet

    def say(self, text: str) -> None:
        """Print a line, on rank 0 alone."""
        if self.is_main:
            print(text, flush=True)


def local_rank_of_launcher() -> int:
    """``LOCAL_RANK`` as torchrun sets it, 0 without a launcher: the default of ``--local_rank``."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def launcher_address() -> str:
    """``MASTER_ADDR`` as torchrun sets it: where rank 0 can be reached."""
    return os.environ["MASTER_ADDR"]


@contextlib.contextmanager
def join_world(local_rank: int) -> Iterator[World]:
    """Join the process group that torchrun's environment describes; leave it on exit.

    One process per GPU (NCCL), or any number on a machine without one (Gloo).

    Raises:
        RunError: ``local_rank`` names a GPU that the machine does not have.
    """
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise RunError(
                f"--local_rank {local_rank} needs {local_rank + 1} GPUs, found {torch.cuda.device_count()}; "
                "start at most one process per GPU"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device)
        return
    try:
        store, rank, size = next(dist.rendezvous("env://"))
        meeting: dict[str, Any] = {"store": _of_this_attempt(store), "rank": rank, "world_size": size}
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device, **meeting)
        else:
            dist.init_process_group("gloo", **meeting)
    except RuntimeError as error:  # torch's errors of connections are of this kind
        raise RunError(f"the {size} ranks could not meet: {str(error).partition(chr(10))[0]}") from error
    try:
        yield World(device, dist.get_rank(), size, control=dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()


def _of_this_attempt(store: dist.Store) -> dist.Store:
    """torchrun keeps one store for all its attempts: without a part of its own, a rank that was started again
    finds addresses of ranks that are gone, if it comes before they are written anew.

    Only one machine's torchrun counts its attempts as all its ranks do.
    """
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        return store
    return dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def broadcast(value: Any, world: World) -> Any:
    """Rank 0's ``value`` on every rank."""
    if world.size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, group=world.group, group_src=0)
    return box[0]


def gather(value: Any, world: World) -> list[Any]:
    """Every rank's ``value``, in order of rank, on every rank."""
    if world.size == 1:
        return [value]
    values: list[Any] = [None] * world.size
    dist.all_gather_object(values, value, group=world.group)
    return values


def store_of_rank_0(world: World, *, joins: bool = True) -> dist.TCPStore | None:
    """A key-value store that rank 0 holds as long as it lives, for words that no collective can say.

    To be called by all ranks; those for which ``joins`` is not set get None.
    """
    host, store = launcher_address(), None
    if world.rank == 0:
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
    port = broadcast(store.port if store else None, world)
    return store if store or not joins else dist.TCPStore(host, port, is_master=False)


class MachineRanks:
    """The ranks that run on this rank's machine, as ``pipelines.base.Neighbours``."""

    def __init__(self, world: World) -> None:
        self._world = world

    def agree(self, make: Callable[[], _T]) -> _T:
        """What ``make`` returns on the first rank of each machine, on all ranks of that machine."""
        machines = gather(this_machine(), self._world)
        first = machines.index(machines[self._world.rank])
        made: tuple[Any, str] = (None, "")
        if first == self._world.rank:
            try:
                made = (make(), "")
            except (DataError, OSError, MemoryError) as error:
                made = (None, str(error) or "the first rank of this machine ran out of memory")
        value, fault = gather(made, self._world)[first]
        if fault:
            raise DataError(fault)
        return cast(_T, value)


def this_machine() -> str:
    """The same for processes that can reach each other's memory: one boot, one namespace of processes."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def broadcast_buffers(model: nn.Module, world: World) -> None:
    """Give every rank rank 0's running statistics, which batch norms gather from their own batches."""
    if world.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, group=world.group, group_src=0)


def barrier(world: World) -> None:
    """Wait until every rank has come this far."""
    if world.size > 1:
        dist.barrier(group=world.group)


def mean_over_ranks(value: Tensor, world: World) -> Tensor:
    """The mean of a tensor over all ranks."""
    if world.size > 1:
        value = value.clone()
        dist.all_reduce(value, group=world.group)
        value /= world.size
    return value


def resolve_seed(seed: int, world: World) -> int:
    """The seed of the run, equal on all ranks; -1 asks the system's entropy, as MLPerf's rules allow."""
    return int(broadcast(secrets.randbits(32) if seed == -1 else seed, world))


def parallel(
    model: nn.Module,
    world: World,
    *,
    static_graph: bool = False,
    one_bucket: bool = False,
    gradient_dtype: str = "float32",
) -> nn.Module:
    """The model with its gradients averaged over ranks, where there is more than one.

    The options are those of `runtime.ddp.distributed`; ``static_graph`` excludes `gradients_kept_local`.
    """
    if world.size == 1:
        return model
    return distributed(
        model,
        world.device,
        static_graph=static_graph,
        one_bucket=one_bucket,
        gradient_dtype=gradient_dtype,
        group=world.group,
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model as it was before `parallel`: its ``state_dict`` has the plain names."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def gradients_kept_local(model: nn.Module, local: bool) -> contextlib.AbstractContextManager[None]:
    """A context whose backward passes are not averaged over ranks where ``local`` is set.

    Raises:
        ValueError: The model is parallel with a static graph, whose every backward pass is averaged.
    """
    if local and isinstance(model, DistributedDataParallel):
        if model.static_graph:
            raise ValueError("gradient accumulation over ranks needs parallel(..., static_graph=False)")
        return model.no_sync()
    return contextlib.nullcontext()
