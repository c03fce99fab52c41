"""Training batches augmented by DALI."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from pipelines.bad_cases import Ledger
from pipelines.base import BadCase, Batch, Observer, Position
from pipelines.cases import Schedule, Step
from pipelines.dali_loader import QUEUE_DEPTH, GraphConfig
from pipelines.device_buffers import static_batches
from pipelines.errors import DataError
from pipelines.fronts import Front, Plan
from pipelines.planner import Planner
from pipelines.samples import Samples
from pipelines.telemetry import BatchTimes


def slots_needed(ahead: int) -> int:
    """Ring slots for plans made ``ahead`` steps before DALI asks for them.

    While the consumer asks for batch k, DALI may ask for plan k + ``QUEUE_DEPTH``, and with it plan
    k + ``QUEUE_DEPTH`` + ``ahead`` is begun. Its slot must be that of k - 2 or before: the last batch that a
    GPU is then known to have taken (see ``_Outputs.take``).
    """
    return QUEUE_DEPTH + ahead + 2


class DaliTrainLoader:
    """Training batches, see ``TrainLoader``: N x 1 x D x H x W, ``image_dtype`` and uint8, on ``device``.

    On a GPU batches lie in one of two sets of buffers whose addresses never change, in turn; use a batch on
    the stream that was current when it was asked for. On the CPU they are DALI's own outputs. Iterating again
    starts again from ``start``.

    Iterating raises DataError, naming file or cases, for a fault in the data or storage that hangs.
    """

    def __init__(
        self,
        front: Front,
        samples: Samples,
        schedule: Schedule,
        graph: GraphConfig,
        device: torch.device,
        *,
        ahead: int,
        start: Position,
        timeout: float,
        image_dtype: torch.dtype,
    ) -> None:
        self._front, self._samples, self._schedule, self._graph = front, samples, schedule, graph
        self._device, self._image_dtype = device, image_dtype
        self._ahead, self._start, self._timeout = ahead, start, timeout
        self._planner: Planner[Step, Plan] | None = None
        self._pipeline: Any = None
        self._outputs: _Outputs | None = None
        self._closed = False
        self.observer: Observer | None = None
        noise = "in the graph" if graph.noise_in_graph else "on the host"
        self.description = (
            f"dali on {graph.device}, {graph.threads} threads, {front.description}, noise made {noise}"
        )
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
        self._stop()
        if self._closed:
            raise RuntimeError("this loader is closed")
        mine = None
        steps = self._schedule.steps(self._start)
        self._outputs = _Outputs(self._graph, self._image_dtype, self._device)
        try:
            while True:
                listed = list(itertools.islice(steps, self._front.steps_per_pipeline or 0))
                mine = self._planner = self._plan(iter(listed) if listed else steps)
                with self._naming_cases(mine, 0):
                    self._pipeline = self._front.pipeline(self._graph, mine.get, listed)
                    self._pipeline.build()
                waited = mine.waited_s
                for number in range(len(listed)) if listed else itertools.count():
                    with self._naming_cases(mine, number):
                        batch = self._outputs.take(self._pipeline)
                    plan, before, waited = mine.get(number), waited, mine.waited_s
                    self.bytes_read += plan.bytes_read
                    self._ledger.add(plan.met)
                    if self.observer and plan.times:
                        transfer_s = 0.0 if self._device.type == "cpu" else None
                        self.observer(BatchTimes(plan.times, transfer_s, host_wait_s=waited - before))
                    yield batch
                    if self._planner is not mine or self._outputs is None:
                        raise RuntimeError("this iterator ended: its loader was closed or iterated again")
                mine.close()
        finally:
            if mine is not None and self._planner is mine:
                self._stop()

    def close(self) -> None:
        """Stop the threads and give memory back. May be called more than once."""
        self._stop()
        if not self._closed:
            self._closed = True
            self._front.close()

    def _plan(self, steps: Iterator[Step]) -> Planner[Step, Plan]:
        return Planner(
            steps,
            self._front.plan,
            threads=self._graph.threads,
            ahead=self._ahead,
            kept=QUEUE_DEPTH + 2,
            timeout=self._timeout,
            names=lambda step: self._samples.names(step.cases),
        )

    @contextmanager
    def _naming_cases(self, planner: Planner[Step, Plan], number: int) -> Iterator[None]:
        """Turn what DALI says of a fault into a DataError that names the cases of the step at hand."""
        try:
            yield
        except DataError:
            raise
        except (RuntimeError, ValueError) as error:
            planner.get(number)  # which raises what is wrong with the step itself
            cases = self._samples.names(planner.item(number).cases)
            raise DataError(f"DALI failed at {cases} or the next: {_reason(error)}") from error

    def _stop(self) -> None:
        planner, self._planner = self._planner, None
        if planner:
            planner.close()
        # Before the memory goes that it works on.
        self._pipeline = self._outputs = None
        if planner and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _reason(error: Exception) -> str:
    """The line of DALI's message that says what went wrong, without the traces around it."""
    lines = [line.strip() for line in str(error).partition("encountered:")[2].splitlines()]
    reason = next(filter(None, lines), str(error).strip().splitlines()[-1])
    if "CUFile" in reason:  # as where the driver nvidia-fs is not loaded
        reason += " GPUDirect Storage does not work for these files here: use --reader file or window"
    return reason


class _Outputs:
    """Takes batches from a pipeline and puts them where the training device wants them."""

    def __init__(self, graph: GraphConfig, image_dtype: torch.dtype, device: torch.device) -> None:
        self._graph, self._image_dtype, self._device = graph, image_dtype, device
        if device.type == "cuda":
            self._batches = static_batches(
                graph.batch_size, graph.patch_shape, graph.layout, image_dtype, device
            )
            self._taken = [torch.cuda.Event() for _ in range(2)]
            self._held: list[Any] = [None, None]
            self._count = 0

    def take(self, pipeline: Any) -> Batch:
        """The next batch. On a GPU the host first waits until the last but one has left DALI's buffers."""
        if self._device.type == "cpu":
            image, label = (torch.from_dlpack(output.as_tensor()) for output in pipeline.run())
            return Batch(self._strided(image).to(self._image_dtype), label)
        place, self._count = self._count % 2, self._count + 1
        self._taken[place].synchronize()
        stream = torch.cuda.current_stream(self._device)
        # DALI may use its buffers again when nobody holds them, whatever the stream has yet to read of them.
        self._held[place] = pipeline.run(stream) if self._graph.device == "gpu" else pipeline.run()
        image, label = (torch.from_dlpack(output.as_tensor()) for output in self._held[place])
        target = self._batches[place]
        with record_function("transfer"):
            target.image.copy_(self._strided(image), non_blocking=True)
            target.label.copy_(label, non_blocking=True)
        self._taken[place].record(stream)
        return target

    def _strided(self, image: Tensor) -> Tensor:
        """N x 1 x D x H x W, from what the graph emits: N x D x H x W x 1 for NDHWC."""
        return image.permute(0, 4, 1, 2, 3) if self._graph.layout == "NDHWC" else image
