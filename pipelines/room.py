"""What a loader will take of its machine, checked before it takes anything: a run should not end hours later,
by a signal, for what could be told at its start."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from pipelines.base import Neighbours
from pipelines.config import DaliDevice, LoaderConfig
from pipelines.draw import Shape
from pipelines.errors import DataError
from pipelines.shared_memory import one_for_all
from pipelines.slots import check_shared_memory, ring_bytes
from preprocess.machine import allow_open_files, available_memory, open_files

_WORKER = 64 << 20
"""Bytes of a worker process that it shares with nobody: 30 MiB measured with patches of 128^3, and as much
again for a label that is searched for foreground."""

_GRAPH_BATCHES = 6
"""Batches that DALI's CPU graph holds between its operators: 4 to 6.4 measured."""

_READER_CASES = 3
"""Whole cases that DALI's readers hold for each sample of a batch: 2.4 to 3.4 measured."""

_REST_FILES = 64
"""Files that the rest of a run may open later: log, checkpoints, sockets between ranks, a device's driver."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a rank's loader takes; memory in bytes."""

    slots: int = 0
    """Batch slots."""
    shared_slots: int = 0
    """Of those, in shared memory."""
    ring: int = 0
    """Of the batch slots."""
    shared_ring: int = 0
    """Of those in shared memory."""
    workers: int = 0
    """Of the worker processes."""
    graph: int = 0
    """Of DALI's graph, its readers, and cases on their way to a device."""
    device_cache: int = 0
    """Of the volumes of ``--data_cache device`` where the device is the CPU."""
    files: int = 0
    """Open files of one process, beyond those that are open already."""


def pytorch_needs(config: LoaderConfig, slots: int) -> Needs:
    """What ``--loader pytorch`` takes."""
    ring = ring_bytes(slots, config.batch_size, config.input_shape, itemsize=4)
    shared = config.num_workers > 0
    return Needs(
        slots=slots,
        shared_slots=slots * shared,
        ring=ring,
        shared_ring=ring * shared,
        workers=config.num_workers * _WORKER,
        # Two pipes for each worker and one for all, the ring; a worker inherits them and opens three more.
        files=4 * config.num_workers + 2 + 2 + 3,
    )


def dali_needs(
    config: LoaderConfig,
    place: DaliDevice,
    threads: int,
    slots: int,
    itemsize: int,
    shapes: Sequence[Shape | None],
    device_cache: int,
) -> Needs:
    """What ``--loader dali`` takes.

    Args:
        config: Of the loader.
        place: Where the graph works.
        threads: That read for it.
        slots: Of the ring, where patches lie in one.
        itemsize: Bytes of a voxel of the images as they are kept.
        shapes: Of the cases, where they are known.
        device_cache: Bytes of ``--data_cache device``.
    """
    case = max(math.prod(shape) for shape in shapes if shape) * (itemsize + 1)
    graph = 0
    if place == "cpu":
        graph += _GRAPH_BATCHES * ring_bytes(1, config.batch_size, config.input_shape, itemsize=4)
        if config.reader == "file":
            graph += _READER_CASES * config.batch_size * case
    elif device_cache:
        graph += threads * case  # in page-locked memory, on their way
    return Needs(
        slots=slots,
        ring=ring_bytes(slots, config.batch_size, config.input_shape, itemsize=itemsize),
        graph=graph,
        device_cache=device_cache if place == "cpu" else 0,
        # Each thread keeps one and opens another for a moment; each reader has a file for every sample open.
        files=2 * threads + 1 + (2 * (config.batch_size + 1) if config.reader != "window" else 0),
    )


def check_room(needs: Needs, host_cache: int, neighbours: Neighbours) -> None:
    """Raise DataError, with what is needed and what there is, unless the machine has room for all its ranks.

    Every rank must call it, before it takes any of the memory. ``host_cache`` is what ``--data_cache host``
    takes once for all of them. The limit on open files is raised where this process may do that.
    """
    _check_open_files(needs.files)
    names = [field.name for field in fields(Needs)]
    block = one_for_all(len(names) * 8, 1, neighbours)
    sums = block.array(0, (len(names),), np.int64)
    with block.locked(0):
        np.add(sums, [getattr(needs, name) for name in names], out=sums)
    # After one call of ``agree`` all ranks have added theirs; in the second the first rank looks, for all.
    neighbours.agree(lambda: None)
    total = Needs(**dict(zip(names, sums.tolist(), strict=True)))
    neighbours.agree(lambda: _check_memory(total, host_cache))


def _check_memory(total: Needs, host_cache: int) -> None:
    if total.shared_slots:
        check_shared_memory(total.shared_slots, total.shared_ring)
    parts = {
        f"{total.slots} batch slots": total.ring,
        f"{total.workers // _WORKER} workers": total.workers,
        "DALI": total.graph,
        "--data_cache": host_cache + total.device_cache,
    }
    needed, free = sum(parts.values()), available_memory()
    if needed > free:
        listed = ", ".join(f"{size} for {name}" for name, size in parts.items() if size)
        cache = ", or use --data_cache none" if host_cache + total.device_cache else ""
        raise DataError(
            f"the loaders of this machine need {needed} bytes of host memory ({listed}), but {free} are "
            f"free: lower --num_workers or --batch_size{cache}"
        )


def _check_open_files(of_loader: int) -> None:
    now = open_files()
    needed = now + of_loader + _REST_FILES
    if (limit := allow_open_files(needed)) < needed:
        raise DataError(
            f"a process of this run needs {needed} open files ({now} are open, {of_loader} for the loader, "
            f"{_REST_FILES} for all else), but its limit is {limit}: raise it (ulimit -Hn {needed}), or "
            "lower --num_workers"
        )
