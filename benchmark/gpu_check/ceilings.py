"""What this GPU reaches at most: a large matrix product, and a copy of a large tensor."""

from typing import Any

import torch

from benchmark.gpu_check.scale import Scale, dtype_of
from benchmark.gpu_check.timing import time_calls
from benchmark.nvml import describe_gpu


def measure(scale: Scale, what: str, dtype: str) -> dict[str, Any]:
    """``matmul``: TFLOP/s of a square product of normal noise (zeros would take less power, and so be
    faster); ``copy``: GB/s (10^9 bytes), what is read and what is written together."""
    device, kind = scale.device, dtype_of(dtype)
    if what == "matmul":
        left, right = (torch.randn(scale.matmul, scale.matmul, device=device, dtype=kind) for _ in range(2))
        out = torch.empty_like(left)
        timing = time_calls([lambda: torch.mm(left, right, out=out)], scale, times=10)
        work = {"tflops": 2 * scale.matmul**3 / timing.median_s / 1e12}
    else:
        source = torch.empty(scale.copy_bytes // kind.itemsize, device=device, dtype=kind).fill_(1)
        target = torch.empty_like(source)
        timing = time_calls([lambda: target.copy_(source)], scale, times=10)
        work = {"gbps": 2 * scale.copy_bytes / timing.median_s / 1e9}
    state = {} if scale.dry else describe_gpu(0)
    return {"what": what, "dtype": dtype, **work, "timing": timing.values(), "gpu_right_after": state}
