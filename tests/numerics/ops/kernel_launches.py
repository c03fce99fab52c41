"""The launches of ``model/ops`` that a training step and a sliding window would make on a Hopper GPU.

They are recorded instead of made: operations run on fake tensors, which have shapes but no data, and Triton
is stopped where it would compile.
"""

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import model.ops

ARCH = 90  # Hopper
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Launch:
    """A kernel as it was launched first with these types and constants."""

    module: str
    name: str
    dtype: str
    types: str
    """Of its arguments; those that are constants count as one type."""
    arguments: str
    """Pointers with what they point to, and constants with their values."""
    specialization: str
    """What `JITFunction.preload` compiles."""


class Hopper:
    """In the place of Triton's driver, of which compiling takes no more than this."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", ARCH, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class _AsOnDevice(TorchDispatchMode):
    """Has the custom operators launch, and convolutions answer in the layout that cuDNN's answer in."""

    def __init__(self, recording: "Recording") -> None:
        super().__init__()
        self.recording = recording

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "voxelrate":
            before = self.recording.made
            result = OPDEFS[func.name()]._init_fn(*args, **(kwargs or {}))
            self.recording.operators[func.name()] = self.recording.made - before
            return result
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            return result.contiguous(memory_format=torch.channels_last_3d)
        return result


@dataclass
class Recording:
    """Launches that were not made."""

    launches: dict[str, Launch] = field(default_factory=dict)
    """By their specialization."""
    operators: dict[str, int] = field(default_factory=dict)
    """Launches that the last call of a custom operator made."""
    made: int = 0

    @contextlib.contextmanager
    def of(self, dtype: str) -> Iterator[None]:
        """Record; all tensors made inside are fake."""
        from triton import knobs
        from triton.runtime import driver

        def hook(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:  # noqa: A002
            self.made += 1
            specialization = compile["specialization_data"]
            kinds = list(compile["signature"].items())
            constants = {kinds[place][0]: value for (place,), value in compile["constants"].items()}
            arguments = " ".join(
                f"{name}={constants.get(name, kind)}" for name, kind in kinds if kind != "i32"
            )
            types = str([kind for _, kind in kinds])
            launch = Launch(fn.module, fn.name, dtype, types, arguments, specialization)
            self.launches.setdefault(specialization, launch)
            return True

        driver.set_active(Hopper())
        knobs.runtime.jit_cache_hook = hook
        with warnings.catch_warnings(), FakeTensorMode(), _AsOnDevice(self):
            # Triton asks a tensor for its address: a fake one's is its offset, and its divisibility counts.
            warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
            yield
        knobs.runtime.jit_cache_hook = None


def train_step(
    dtype: str,
    batch: int,
    *,
    activation: str = "relu",
    fused_join: bool = True,
    recompute_norm: bool = False,
) -> None:
    """Forward and backward of the MLPerf network with all operations fused, under autocast."""
    from model.ops.dice_ce import dice_ce
    from model.unet3d import Unet3D

    backend: Any = "triton"
    join: Any = "triton" if fused_join else "native"
    ops = model.ops.Ops(norm=backend, join=join, loss=backend, stem=backend, head=backend)
    network = Unet3D(1, 3, activation=activation, ops=ops, recompute_norm=recompute_norm)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 5:  # `Module.to` cannot do it: fake tensors do not swap.
                filters = parameter.detach().contiguous(memory_format=torch.channels_last_3d)
                setattr(module, name, torch.nn.Parameter(filters))
    image = torch.empty(batch, 1, 128, 128, 128)
    label = torch.empty(batch, 1, 128, 128, 128, dtype=torch.uint8)
    with torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "float32"):
        logits = network(image)
        loss = dice_ce(logits, label, backend="triton")
    loss.backward()


def loss_of_contiguous_logits(dtype: str, batch: int, include_background: bool = False) -> None:
    """The loss of what a network in PyTorch's default layout gives."""
    from model.ops.dice_ce import dice_ce

    logits = torch.empty(batch, 3, 128, 128, 128, dtype=DTYPES[dtype], requires_grad=True)
    label = torch.empty(batch, 1, 128, 128, 128, dtype=torch.uint8)
    dice_ce(logits, label, include_background=include_background, backend="triton").backward()


def windows(dtype: str, batch: int) -> None:
    """A sliding window of evaluation, in all layouts."""
    from model.ops.accumulate_windows import accumulate_windows

    weights: list[Tensor] = [torch.empty(128, dtype=torch.float64) for _ in range(3)]
    for of_result, of_logits in itertools.product(
        (torch.contiguous_format, torch.channels_last_3d), repeat=2
    ):
        result = torch.empty(1, 3, 190, 381, 381, memory_format=of_result)
        logits = torch.empty(batch, 3, 128, 128, 128, dtype=DTYPES[dtype], memory_format=of_logits)
        accumulate_windows(result, logits, [(0, 1, 16)] * batch, *weights, backend="triton")


def smallest(dtype: str, batch: int) -> None:
    """Of all operations the smallest shapes, whose sizes and strides are mostly 1."""
    from model.ops.accumulate_windows import accumulate_windows
    from model.ops.dice_ce import dice_ce
    from model.ops.head_conv import head_conv
    from model.ops.instance_norm_relu import instance_norm_relu_joined
    from model.ops.stem_conv import stem_conv
    from model.ops.up_join import up_join

    def parameters(*shape: int) -> Tensor:
        return torch.empty(shape, requires_grad=True)

    last = torch.channels_last_3d
    x = torch.empty(batch, 1, 1, 1, 1, dtype=DTYPES[dtype])
    stem = stem_conv(x, parameters(1, 1, 3, 3, 3), backend="triton")
    joined = torch.empty(batch, 2, 2, 2, 2, dtype=x.dtype, memory_format=last)
    up = up_join(stem, parameters(1, 1, 2, 2, 2), parameters(1), joined, backend="triton")
    both = instance_norm_relu_joined(up[:, :1], parameters(1), parameters(1), backend="triton")
    logits = head_conv(
        torch.cat(both, dim=1).contiguous(memory_format=last),
        parameters(2, 3, 1, 1, 1),
        parameters(2),
        backend="triton",
    )
    label = torch.empty(batch, 1, 2, 2, 2, dtype=torch.uint8)
    dice_ce(logits, label, backend="triton").backward()
    weights = [torch.empty(1) for _ in range(3)]
    accumulate_windows(torch.empty(1, 1, 1, 1, 1), x[:1], [(0, 0, 0)], *weights, backend="triton")


def all_launches() -> Recording:
    """All that the network's options and batches of 2, 1 and 7 lead to."""
    recording = Recording()
    for dtype, batch in itertools.product(("bfloat16", "float16", "float32"), (2, 1, 7)):
        with recording.of(dtype):
            for activation, fused_join in itertools.product(("relu", "leaky_relu", "none"), (True, False)):
                train_step(dtype, batch, activation=activation, fused_join=fused_join)
            train_step(dtype, batch, recompute_norm=True)
            smallest(dtype, batch)
            for include_background in (False, True):
                loss_of_contiguous_logits(dtype, batch, include_background)
            windows(dtype, batch)
    return recording


def launches_of_tests() -> Recording:
    """What batches of 2 lead to in bfloat16; of other batches, dtypes and of the smallest shapes, new types.

    A number that is 1 has a type of its own, for Triton makes a constant of it.
    """
    recording, others = Recording(), Recording()
    with recording.of("bfloat16"):
        train_step("bfloat16", 2)
        train_step("bfloat16", 2, recompute_norm=True)
        loss_of_contiguous_logits("bfloat16", 2)
        windows("bfloat16", 2)
    for dtype, batch in (("bfloat16", 1), ("float16", 2), ("float32", 1)):
        with others.of(dtype):
            train_step(dtype, batch)
            smallest(dtype, batch)
            loss_of_contiguous_logits(dtype, batch)
            windows(dtype, batch)
    known = {(launch.name, launch.types) for launch in recording.launches.values()}
    for specialization, launch in others.launches.items():
        if (launch.name, launch.types) not in known:
            known.add((launch.name, launch.types))
            recording.launches[specialization] = launch
    return recording
