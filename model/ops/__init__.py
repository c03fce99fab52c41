"""The network's fused operations. Each folder holds one: its autograd function and custom ops in
``__init__.py``, the same formulas in plain PyTorch in ``reference.py``, and its kernels in ``triton.py``.

Backends go by name: ``native`` is what PyTorch composes itself (its own modules; these folders are not
used), ``reference`` the plain twin, which runs anywhere in any floating dtype, and ``triton`` the kernels,
which take ``channels_last_3d`` tensors on a CUDA device (or on the CPU under ``TRITON_INTERPRET=1``).
"""

import importlib.util
import os
from dataclasses import dataclass, fields
from typing import Literal

import torch

FusedBackend = Literal["reference", "triton"]
Backend = Literal["native", "reference", "triton"]


@dataclass(frozen=True, kw_only=True)
class Ops:
    """Who computes what."""

    norm: Backend = "native"
    """Instance norm and its activation."""
    join: Backend = "native"
    """Transposed convolution and skip connection, written into one buffer. Needs ``norm`` to be fused."""
    loss: Backend = "native"
    """Softmax, Dice and cross entropy."""
    stem: Backend = "native"
    """The first convolution, of one channel."""
    head: Backend = "native"
    """The 1x1x1 convolution to logits."""

    def __post_init__(self) -> None:
        if self.join != "native" and self.norm == "native":
            raise ValueError("join writes where the fused norm has made room: fuse norm as well")


NATIVE = Ops()
OPS = tuple(field.name for field in fields(Ops))


def why_no_triton(device: torch.device) -> str | None:
    """Why Triton's kernels cannot run on ``device``; None where they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton; PyTorch for CUDA brings it)"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "Triton's kernels need a CUDA device"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        major, minor = torch.cuda.get_device_capability(device)
        return f"the kernels need compute capability 8.0, and this GPU's is {major}.{minor}"
    return None
