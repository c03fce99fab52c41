"""Training patches through ``torch.utils.data.DataLoader`` workers and a ring of shared batch slots.

Workers write augmented windows straight into preallocated shared memory and send back the number of the
slot. What the usual DataLoader spends most of its time on, a new shared block for every batch and a
collating copy into it, is gone.
"""

import itertools
import os
import signal
import time
import warnings
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from pipelines.bad_cases import Ledger, Met
from pipelines.base import BadCase, Batch, Observer, Position
from pipelines.cases import Schedule, Step
from pipelines.delivery import Delivery, MakeDelivery, make_delivery
from pipelines.errors import DataError
from pipelines.samples import Samples
from pipelines.slots import Layout, Ring, make_ring
from pipelines.telemetry import BatchTimes, SampleTimes
from pipelines.workers import (
    WorkerInit,
    born_deaf_to_interrupts,
    born_without_garbage,
    children_end_quietly,
)

_POLL_S = 1.0
"""How often a wait for a batch looks whether all workers live."""


class _Task(NamedTuple):
    slot: int
    step: Step


class _Filled(NamedTuple):
    slot: int
    bytes_read: int
    times: tuple[SampleTimes, ...]
    met: tuple[tuple[Met, ...], ...]
    """For each sample, the bad cases that another one stands in for."""


class _Filler(Dataset[_Filled]):
    """The part of the loader that lives in a worker."""

    def __init__(self, samples: Samples, ring: Ring) -> None:
        self._samples, self._ring = samples, ring

    def __getitems__(self, task: _Task) -> _Filled | DataError:
        """Fill a slot; DataLoader hands the sampler's item over whole. Faults in the data are returned,
        since an exception would reach the user as a traceback's text."""
        images, labels = self._ring.image[task.slot].numpy(), self._ring.label[task.slot].numpy()
        try:
            written = [
                self._samples.write(task.step.epoch, position, case, images[i, 0], labels[i, 0])
                for i, (position, case) in enumerate(zip(task.step.positions, task.step.cases, strict=True))
            ]
        except DataError as error:
            return error
        bytes_read, times, met = zip(*written, strict=True)
        return _Filled(task.slot, sum(bytes_read), times, met)


def _identity(filled: Any) -> Any:
    return filled


def slots_needed(num_workers: int, prefetch: int) -> int:
    """Batch slots of a ring.

    DataLoader asks its sampler for item k + P (P = workers * prefetch; 0 in this process) while it returns
    batch k. Then the consumer has asked for k, so k - 1 and all before are free; k itself and k + 1 ... k + P
    are in use: P + 1 slots. One more lets batch k - 1 leave for the device while k + P is being filled.
    """
    return num_workers * prefetch + 2


class PytorchTrainLoader:
    """Training batches, see ``TrainLoader``: N x 1 x D x H x W, ``image_dtype`` and uint8, on ``device``.

    On the CPU a batch is the slot itself (a converted copy, where ``image_dtype`` is not float32). On CUDA
    the slots are page-locked and copied to one of two device buffers, asynchronously; use the batch on the
    stream that was current when it was asked for. ``num_workers=0`` fills the slots in this process.
    Iterating again starts again from ``start``.

    Iterating raises DataError, naming the cases, for a fault in the data, for a worker that was killed, and
    for one that gives no sign of life for ``timeout`` seconds.
    """

    def __init__(
        self,
        samples: Samples,
        schedule: Schedule,
        device: torch.device,
        *,
        num_workers: int,
        prefetch: int,
        layout: Layout,
        start: Position,
        timeout: float,
        image_dtype: torch.dtype = torch.float32,
        start_method: str = "fork",
        delivery: MakeDelivery = make_delivery,
    ) -> None:
        self._samples, self._schedule, self._start = samples, schedule, start
        self._device, self._layout, self._image_dtype = device, layout, image_dtype
        self._num_workers, self._prefetch, self._start_method = num_workers, prefetch, start_method
        self._timeout, self._make_delivery = timeout, delivery
        self._slots = slots_needed(num_workers, prefetch)
        self._ring = make_ring(self._slots, schedule.batch_size, samples.patch_shape, shared=num_workers > 0)
        self._filler = _Filler(samples, self._ring)
        self._under_way: deque[Step] = deque()
        self._workers: Any = None
        self._delivery: Delivery | None = None
        self.observer: Observer | None = None
        self.description = f"pytorch, {num_workers} worker processes, {samples.description}"
        self.bytes_read = 0
        """Bytes asked from the operating system for the batches handed out so far, in whole pages."""
        self._ledger = Ledger()

    @property
    def bad_cases(self) -> tuple[BadCase, ...]:
        """See ``TrainLoader``."""
        return self._ledger.cases

    def __len__(self) -> int:
        return self._schedule.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        self.close()
        self._workers = workers = self._start_workers()
        # After the workers were forked: pages locked before might be missing in the child.
        self._delivery = delivery = self._make_delivery(
            self._ring, self._layout, self._image_dtype, self._device
        )
        try:
            for k in itertools.count():
                if self._workers is not workers:
                    raise RuntimeError("this iterator ended: its loader was closed or iterated again")
                delivery.before(k)
                filled = self._next(workers)
                self.bytes_read += filled.bytes_read
                self._ledger.add(filled.met)
                batch = delivery.upload(k, filled.slot)
                if self.observer:
                    self.observer(BatchTimes(filled.times, delivery.transfer_s))
                yield batch
        finally:
            if self._workers is workers:
                self.close()

    def close(self) -> None:
        """Stop workers and unlock memory. May be called more than once."""
        workers, self._workers = self._workers, None
        if self._num_workers and workers is not None:
            for worker in workers._workers:
                # A worker that was stopped would not hear that it shall end.
                if worker.is_alive():
                    os.kill(worker.pid, signal.SIGCONT)
            # DataLoader's only other way is its iterator's __del__, which a traceback can hold off.
            workers._shutdown_workers()
            for worker in workers._workers:
                worker.kill()  # DataLoader's last resort is SIGTERM, to which they are deaf
                worker.join()
        delivery, self._delivery = self._delivery, None
        if delivery:
            delivery.close()

    def _tasks(self) -> Iterator[_Task]:
        self._under_way.clear()
        for k, step in enumerate(self._schedule.steps(self._start)):
            self._under_way.append(step)
            yield _Task(k % self._slots, step)

    def _start_workers(self) -> Any:
        parallel: dict[str, Any] = {}
        if self._num_workers:
            parallel = {
                "prefetch_factor": self._prefetch,
                "multiprocessing_context": self._start_method,
                "worker_init_fn": WorkerInit(),
                "timeout": min(_POLL_S, self._timeout),
            }
        # One whole item for __getitems__, where DataLoader's annotation has a list of indices.
        tasks: Any = self._tasks()
        with warnings.catch_warnings():
            # More workers than CPUs is the user's choice, which main.py notes in one line.
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            loader: DataLoader[_Filled] = DataLoader(
                self._filler,
                batch_sampler=tasks,
                collate_fn=_identity,
                num_workers=self._num_workers,
                # Its own generator: DataLoader would otherwise consume the global one.
                generator=torch.Generator(),
                **parallel,
            )
            with born_deaf_to_interrupts(), born_without_garbage(), children_end_quietly():
                return iter(loader)

    def _next(self, workers: Iterator[_Filled | DataError]) -> _Filled:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                filled = next(workers)
                break
            except RuntimeError as error:
                self._check_workers(workers, error)
                if time.monotonic() > deadline:
                    raise DataError(
                        f"no worker has delivered {self._awaited()} for {self._timeout:g} s: it was stopped, "
                        "or the storage hangs; raise --loader_timeout if the storage is that slow"
                    ) from error
        if isinstance(filled, DataError):
            raise filled
        self._under_way.popleft()
        return filled

    def _check_workers(self, workers: Any, error: RuntimeError) -> None:
        """Raise what ``error`` means, unless it is only that nothing came for ``_POLL_S``."""
        for worker in workers._workers if self._num_workers else ():
            if worker.exitcode == -signal.SIGBUS:
                raise DataError(
                    f"a worker lost its memory at {self._awaited()}: a data file shrank, its disk failed, or "
                    "/dev/shm is full"
                ) from error
            if worker.exitcode is not None:
                how = signal.Signals(-worker.exitcode).name if worker.exitcode < 0 else worker.exitcode
                raise DataError(
                    f"a worker was ended from outside ({how}) at {self._awaited()}: most often for lack of "
                    "memory; lower --num_workers"
                ) from error
        if "timed out" not in str(error):
            raise error

    def _awaited(self) -> str:
        return self._samples.names(self._under_way[0].cases if self._under_way else ())
