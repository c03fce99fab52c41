"""The whole training step as one CUDA graph, recorded at the first step and replayed from then on.

A replay does the recorded kernels on the recorded addresses again; no line of Python between them runs. So
whatever changes from step to step must be device memory that stays in its place:

- The batches. Each is copied into memory of the graph's own as it arrives. Reading loaders' buffers where
  they are would need one graph for each set of them, and accumulation needs more batches at a time than a
  loader keeps. The copy moves 21 MB for an image of 128^3 voxels, once read and once written.
- The learning rate: a 0-d float32 tensor, which `runtime.optimizers.set_learning_rate` fills.
- Weights, buffers, moments, step counts and the loss scale, which torch's fused optimizers, our LAMB and the
  loss scalers change in place, without asking the host.

Gradients are made and dropped inside the recorded step: they live in the graph's private memory pool.
Evaluations and checkpoints between replays read the same weights as ever.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.profiler import record_function

from pipelines.base import Batch
from runtime.errors import RunError
from runtime.graph_recorder import Recorder
from runtime.lamb import Lamb
from runtime.precision import LossScaler, step_waits

WARM_UP_STEPS = 3
"""Before a capture, as in PyTorch's notes: cuDNN's search, Triton's compiler and the optimizer's lazily made
state must be over by then."""

WARM_UP_STEPS_DDP = 11
"""With several ranks: DistributedDataParallel times its first ten steps by events, and regroups its buckets
after the first."""

Work = Callable[[Iterator[Batch]], Tensor]
"""A training step: takes its micro-batches one by one, returns its loss."""


class StepGraph:
    """Stands in for the training step; see the module.

    The first step takes longer: it runs warm-up steps on its own batches, undoes them, records, and then
    replays like any other. A loaded checkpoint must be in place by then.

    Args:
        model: The network, inside its DDP wrapper where there is one (see `CudaRecorder` for the order).
        optimizer: Its learning rates become tensors at the first step.
        scaler: A dynamic one, a static one or one that is off.
        ga_steps: Micro-batches of a step.
        recorder: Records the step.
        refresh: Brings along what is derived from the weights, as 16-bit copies of them, after warm-up. A
            step must keep it up to date by itself.

    Raises:
        RunError: Optimizer or scaler need the host in each step.
        ValueError: Momentum has dampening; see `untouched`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scaler: LossScaler,
        ga_steps: int,
        recorder: Recorder,
        refresh: Callable[[], None] | None = None,
    ) -> None:
        _check(optimizer, scaler)
        self._model, self._optimizer, self._scaler = model, optimizer, scaler
        self._ga_steps, self._recorder, self._refresh = ga_steps, recorder, refresh
        self._inputs: list[Batch] = []
        self._loss: Tensor | None = None
        self._recorded_on: list[object] = []

    def step(self, work: Work, batches: Iterator[Batch]) -> Tensor:
        """Do ``work`` on the next ``ga_steps`` batches; ``work`` itself runs at the first step alone.

        Returns:
            The loss as a tensor of its own, not to be overwritten by the next replay.

        Raises:
            RunError: ``work`` cannot be recorded, or a batch is not like the first.
            RuntimeError: The optimizer was given another state or learning rate than it was recorded with.
        """
        self._receive(batches)
        if self._loss is None:
            self._loss = self._record(work)
            self._recorded_on = self._places()
        if any(now is not then for now, then in zip(self._places(), self._recorded_on, strict=True)):
            raise RuntimeError(
                "the recorded step writes to the optimizer's former state: load a checkpoint before the "
                "first step, and set the learning rate by set_learning_rate"
            )
        with record_function("replay"):
            self._recorder.replay()
        return self._loss.clone()

    def close(self) -> None:
        """Give the graph's memory back, before the process group ends; no step may follow."""
        self._recorder.release()
        self._inputs, self._loss = [], None

    def _receive(self, batches: Iterator[Batch]) -> None:
        """Copy the step's batches to where the graph reads them."""
        for i in range(self._ga_steps):
            with record_function("next batch"):
                batch = next(batches)
            if len(self._inputs) == i:
                self._inputs.append(Batch(*(torch.empty_like(part) for part in batch)))
            for part, own in zip(batch, self._inputs[i], strict=True):
                if part.shape != own.shape or part.dtype != own.dtype:
                    raise RunError(
                        f"--cuda_graph recorded batches of {list(own.shape)} {own.dtype}, and this one is "
                        f"{list(part.shape)} {part.dtype}: drop --cuda_graph"
                    )
                own.copy_(part)

    def _record(self, work: Work) -> Tensor:
        # Now, since a checkpoint that was loaded before may have brought numbers.
        for group in self._optimizer.param_groups:
            device = group["params"][0].device
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
        warm_up = WARM_UP_STEPS_DDP if isinstance(self._model, DistributedDataParallel) else WARM_UP_STEPS
        with self._recorder.beside():
            with untouched(self._model, self._optimizer, self._scaler):
                for _ in range(warm_up):
                    work(iter(self._inputs))
            if self._refresh is not None:
                self._refresh()
        try:
            return self._recorder.capture(lambda: work(iter(self._inputs)))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(_first(error)).partition("\n")[0]
            raise RunError(f"--cuda_graph cannot record the step ({reason}): drop it") from error

    def _places(self) -> list[object]:
        """What is another object once the optimizer's memory has been exchanged."""
        return [self._optimizer.state, *(group["lr"] for group in self._optimizer.param_groups)]


@contextmanager
def untouched(model: nn.Module, optimizer: Optimizer, scaler: LossScaler) -> Iterator[None]:
    """Training steps inside leave weights, buffers, optimizer, scaler and random numbers as they were.

    All are written back in place, so that what was recorded of their addresses holds. State that the
    optimizer made inside stays and is zeroed, which is the same as none: torch's Adam and our LAMB begin
    with moments and counts of zero, and SGD's momentum of zero gives its first step, ``0 m + g``, bit by bit.
    (Not under dampening: the first step ignores it and a later one does not.)
    """
    kept = [*model.parameters(), *model.buffers(), *_tensors(optimizer)]
    known = {id(tensor) for tensor in kept}
    values = [tensor.detach().clone() for tensor in kept]
    # apex counts steps in plain numbers.
    plain = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    scale = scaler.state_dict()
    gpus = {tensor.device for tensor in kept if tensor.is_cuda}
    with torch.random.fork_rng(gpus, device_type="cuda"):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor in _tensors(optimizer):
                    if id(tensor) not in known:
                        tensor.zero_()
                for tensor, value in zip(kept, values, strict=True):
                    tensor.copy_(value)
            for group, before in zip(optimizer.param_groups, plain, strict=True):
                group.update({k: v for k, v in before.items() if not isinstance(group[k], Tensor)})
            if scale:
                scaler.load_state_dict(scale)


def _tensors(optimizer: Optimizer) -> list[Tensor]:
    """What the optimizer keeps, of its groups and for each parameter."""
    kept = [*optimizer.param_groups, *optimizer.state.values()]
    return [value for values in kept for value in values.values() if isinstance(value, Tensor)]


def _check(optimizer: Optimizer, scaler: LossScaler) -> None:
    name = type(optimizer).__name__
    for group in optimizer.param_groups:
        # Adam has a switch of its own for capture. SGD has none, and only its fused kernel reads the
        # learning rate on the device.
        if not (isinstance(optimizer, Lamb) or group.get("capturable", group.get("fused"))):
            raise RunError(
                "--cuda_graph needs an optimizer that runs on the device alone (torch's fused SGD, its fused "
                f"and capturable Adam, or our LAMB), and this {name} does not: give --optimizer_backend torch"
            )
        if group.get("dampening"):
            raise ValueError("a recorded SGD cannot have dampening")
    if step_waits(scaler, optimizer):
        raise RunError(
            f"--cuda_graph cannot record the dynamic loss scale of --amp_dtype float16 with this {name}: "
            "the host decides whether its step is skipped; give --static_loss_scale or --amp_dtype bfloat16"
        )


def _first(error: BaseException) -> BaseException:
    """The error that led to the others: ending a capture that has failed fails too."""
    while error.__context__ is not None:
        error = error.__context__
    return error
