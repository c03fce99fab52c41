"""Training steps of the whole network on tensors that have shapes and dtypes but no numbers.

They are of PyTorch's `FakeTensorMode`, as if on a CPU: there autocast and fused optimizers work, which the
meta device does not know, and our kernels need no Triton. One difference from a GPU is undone: convolutions
keep ``channels_last_3d`` as cuDNN's do (`_ConvolutionsKeepLayout`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import SGD, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.peers.mlperf_step import ReferenceStep
from benchmark.step.launches import LaunchCount, launches_of_ops
from benchmark.step.storages import LiveStorages
from model.convolutions import ShadowWeights
from model.losses import DiceCELoss
from model.ops import Ops
from model.unet3d import Unet3D
from pipelines.base import Batch
from preprocess.spec import NUM_CLASSES
from runtime.precision import AMP_DTYPES, Precision
from runtime.state import TrainState
from runtime.training import train_step

_LAYOUT = torch.channels_last_3d
KERNELS = Ops(norm="triton", join="triton", loss="triton")
"""What ``--fused auto`` takes on a GPU."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The network and how it is trained."""

    reference: ReferenceStep | None = None
    """Whose step it is; None: ours."""
    ops: Ops = KERNELS
    recompute_norm: bool = False
    amp: bool = False
    """Autocast to bfloat16."""
    shadow_weights: bool = False
    foreach: bool = False
    """The reference's SGD for all parameters at once, as PyTorch chooses on a GPU, rather than one by one."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of the network and its batches."""

    filters: Sequence[int]
    patch: int
    """Voxels along each edge."""
    batch_size: int


def count_launches(subject: Subject, shape: Shape) -> LaunchCount:
    """What the second step dispatches, when the optimizer has its state."""
    with _fake():
        state, batch = _state(subject, shape), _batch(subject, shape)
        step = _reference_step if subject.reference else _our_step
        step(state, batch)
        count = LaunchCount(launches_of_ops())
        count.follow(state.model, state.loss_fn, state.optimizer)
        with count:
            step(state, batch)
    return count


def saved_bytes(subject: Subject, shape: Shape) -> int:
    """Bytes that the backward pass finds: of tensors made by network and loss and kept, without the loss."""
    with _fake():
        state, (image, label) = _state(subject, shape), _batch(subject, shape)
        with LiveStorages() as storages, state.precision.autocast():
            loss = state.loss_fn(state.model(image), label)
        return storages.alive_bytes(but=loss)


def _state(subject: Subject, shape: Shape) -> TrainState:
    precision = Precision("cpu", subject.amp, "bfloat16")
    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    if subject.reference:
        model, loss = subject.reference.network(shape.filters), subject.reference.loss()
        optimizer = subject.reference.optimizer(model.parameters(), 1.0)
        optimizer.param_groups[0]["foreach"] = subject.foreach
        return TrainState(model, loss, optimizer, precision.scaler(), precision)
    model = Unet3D(
        1, NUM_CLASSES, filters=shape.filters, ops=subject.ops, recompute_norm=subject.recompute_norm
    )
    for parameter in model.parameters():
        if parameter.dim() == 5:
            # Fake parameters cannot be exchanged, as Module.to would.
            parameter.data = parameter.data.to(memory_format=_LAYOUT)
    optimizer = SGD(model.parameters(), lr=1.0, momentum=0.9, nesterov=True, fused=True)
    if subject.shadow_weights:
        ShadowWeights(model, AMP_DTYPES[precision.amp_dtype]).follow(optimizer)
    return TrainState(model, DiceCELoss(backend=subject.ops.loss), optimizer, precision.scaler(), precision)


def _batch(subject: Subject, shape: Shape) -> Batch:
    size = (shape.batch_size, 1, *(shape.patch,) * 3)
    image = torch.empty(size)
    return Batch(
        image if subject.reference else image.to(memory_format=_LAYOUT), torch.empty(size, dtype=torch.uint8)
    )


def _our_step(state: TrainState, batch: Batch) -> None:
    train_step(state, repeat(batch))


def _reference_step(state: TrainState, batch: Batch) -> None:
    """As in its ``runtime/training.py``, but that the loss is not copied to the host: it has no number."""
    with state.precision.autocast():
        loss: Tensor = state.loss_fn(state.model(batch.image), batch.label)
    loss.backward()
    state.optimizer.step()
    state.optimizer.zero_grad()


@contextmanager
def _fake() -> Iterator[None]:
    with FakeTensorMode(), _ConvolutionsKeepLayout():
        yield


class _ConvolutionsKeepLayout(TorchDispatchMode):
    """Convolutions of ``channels_last_3d`` tensors answer in that format, forwards and backwards.

    As cuDNN's do if image or weight has it (``cudnn_conv_suggest_memory_format`` of ATen). A fake CPU's
    answer contiguously, and what follows would be charged with copies that no GPU makes.
    """

    _ARGUMENTS: dict[Callable[..., Any], slice] = {
        torch.ops.aten.convolution.default: slice(0, 2),
        torch.ops.aten.convolution_backward.default: slice(1, 3),
    }
    """Where image and weight are."""

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in self._ARGUMENTS or not any(map(_is_last, args[self._ARGUMENTS[func]])):
            return result
        if isinstance(result, Tensor):
            return result.contiguous(memory_format=_LAYOUT)
        image, weight, bias = result
        return (
            *(part if part is None else part.contiguous(memory_format=_LAYOUT) for part in (image, weight)),
            bias,
        )


def _is_last(tensor: Tensor) -> bool:
    """Whether strides say that channels come last, where sizes of 1 would leave it open."""
    return tensor.stride(1) == 1 and tensor.stride(4) >= tensor.shape[1]
