"""Compiles the kernels of ``model/ops`` for a Hopper GPU, on any machine with Triton: no GPU is needed.

Triton's interpreter takes what its compiler refuses. Here a training step of the MLPerf network and a sliding
window run on fake tensors, which have shapes but no data, and each launch is recorded instead of made: with
the types, the constants and the divisibilities that Triton sees in it. What differs is compiled once.

    python -m tests.numerics.ops.compile_kernels          # what tests compile
    python -m tests.numerics.ops.compile_kernels --all    # all dtypes, batches, layouts and activations

It prints a line per compiled kernel (`Compiled`), and its exit status is 1 where one failed.
"""

import argparse
import contextlib
import importlib
import io
import itertools
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import model.ops

ARCH = 90
MOST_SHARED = 227 * 1024
"""Bytes of shared memory that a program can have on Hopper."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Launch:
    """A kernel as it was launched first with these types and constants."""

    module: str
    name: str
    dtype: str
    arguments: str
    """Pointers with what they point to, and constants with their values."""
    specialization: str
    """What `JITFunction.preload` compiles."""


@dataclass(frozen=True)
class Compiled:
    """What has become of a launch."""

    module: str
    name: str
    dtype: str
    arguments: str
    error: str = ""
    registers: int = 0
    spilled: int = 0
    """Bytes that a thread spills, stores and loads."""
    shared: int = 0
    """Bytes of a program."""
    loads: str = ""
    """Instructions that read global memory, counted by bytes: "16:8 2:3" are eight of 16 and three of 2."""
    stores: str = ""
    products: str = ""
    """Tensor core instructions: mma, wgmma or both."""
    seconds: float = 0.0


class _Hopper:
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

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "voxelrate":
            return OPDEFS[func.name()]._init_fn(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            return result.contiguous(memory_format=torch.channels_last_3d)
        return result


@contextlib.contextmanager
def recorded(dtype: str, launches: dict[str, Launch]) -> Iterator[None]:
    """Add launches to ``launches`` instead of making them; all tensors made inside are fake."""
    from triton import knobs
    from triton.runtime import driver

    def hook(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:  # noqa: A002
        specialization = compile["specialization_data"]
        types = list(compile["signature"].items())
        constants = {types[place][0]: value for (place,), value in compile["constants"].items()}
        arguments = " ".join(f"{name}={constants.get(name, kind)}" for name, kind in types if kind != "i32")
        launches.setdefault(specialization, Launch(fn.module, fn.name, dtype, arguments, specialization))
        return True

    driver.set_active(_Hopper())
    knobs.runtime.jit_cache_hook = hook
    with warnings.catch_warnings(), FakeTensorMode(), _AsOnDevice():
        # Triton asks a tensor for its address: a fake one's is its offset, whose divisibility is what counts.
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        yield
    knobs.runtime.jit_cache_hook = None


def train_step(dtype: str, batch: int, activation: str = "relu", *, fused_join: bool = True) -> None:
    """Forward and backward of the MLPerf network with all operations fused, under autocast."""
    from model.ops.dice_ce import dice_ce
    from model.unet3d import Unet3D

    backend: Any = "triton"
    join: Any = "triton" if fused_join else "native"
    ops = model.ops.Ops(norm=backend, join=join, loss=backend, stem=backend, head=backend)
    network = Unet3D(1, 3, activation=activation, ops=ops)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 5:  # `Module.to` cannot do it: fake tensors do not swap.
                filters = parameter.detach().contiguous(memory_format=torch.channels_last_3d)
                setattr(module, name, torch.nn.Parameter(filters))
    image, label = torch.empty(batch, 1, 128, 128, 128), torch.empty(batch, 1, 128, 128, 128).to(torch.uint8)
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
    for of_result, of_logits in itertools.product((torch.contiguous_format, torch.channels_last_3d), repeat=2):
        result = torch.empty(1, 3, 190, 381, 381, memory_format=of_result)
        logits = torch.empty(batch, 3, 128, 128, 128, dtype=DTYPES[dtype], memory_format=of_logits)
        accumulate_windows(result, logits, [(0, 1, 16)] * batch, *weights, backend="triton")


def launches_of_tests() -> Iterable[Launch]:
    """A batch of 2 in bfloat16; 1 (which Triton makes a constant) and 7 and the other dtypes."""
    launches: dict[str, Launch] = {}
    with recorded("bfloat16", launches):
        train_step("bfloat16", 2)
        loss_of_contiguous_logits("bfloat16", 2)
        windows("bfloat16", 2)
    return launches.values()


def all_launches() -> Iterable[Launch]:
    """All that the network's options and batches of 1, 2 and 7 lead to."""
    launches: dict[str, Launch] = {}
    for dtype, batch in itertools.product(DTYPES, (1, 2, 7)):
        with recorded(dtype, launches):
            for activation, fused_join in itertools.product(("relu", "leaky_relu", "none"), (True, False)):
                train_step(dtype, batch, activation, fused_join=fused_join)
            for include_background in (False, True):
                loss_of_contiguous_logits(dtype, batch, include_background)
            windows(dtype, batch)
    return launches.values()
