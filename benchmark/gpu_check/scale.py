"""How large everything is: the network of MLPerf on a GPU, or one that a CPU's dry run gets through."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.unet3d import MLPERF_FILTERS


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes and lengths of all sections."""

    dry: bool
    """Whether it runs on a CPU, so that no number of it is a measurement."""
    filters: tuple[int, ...]
    patch: int
    """Edge of the training patch, in voxels."""
    large_batch: int
    """Batch of NVIDIA's submissions."""
    small_batch: int
    """Batch of the MLPerf reference."""
    matmul: int
    """Edge of the square matrices of the arithmetic ceiling."""
    copy_bytes: int
    """Of the tensor whose copy is the memory ceiling."""
    timing_s: float
    """About what the timing of one operation takes, after its warm-up."""
    min_samples: int
    """Of each such timing."""
    warmup_steps: int
    """Before each timed window of training steps; more than a CUDA graph waits before it is recorded."""
    window_s: float
    """About how long such a window is."""
    min_steps: int
    max_steps: int
    end_to_end_steps: int
    """Timed steps of each run of ``main.py --benchmark``."""
    curve_steps: int
    curve_patch: int
    dtypes: tuple[str, ...]
    """In which kernels are checked, the most wanted first."""
    jobs: int
    """Processes that check kernels at a time: most of what they do is compiling."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return torch.device("cpu" if self.dry else "cuda:0")

    def flags(self, patch: int | None = None) -> list[str]:
        """``main.py``'s flags for this network."""
        size = [str(patch or self.patch)] * 3
        shape = ["--input_shape", *size, "--val_input_shape", *size]
        return ["--filters", *map(str, self.filters), *shape]


REAL = Scale(
    dry=False, filters=MLPERF_FILTERS, patch=128, large_batch=7, small_batch=2, matmul=8192,
    copy_bytes=4 << 30, timing_s=0.06, min_samples=5, warmup_steps=8, window_s=2.5, min_steps=10,
    max_steps=60, end_to_end_steps=100, curve_steps=300, curve_patch=64,
    dtypes=("bfloat16", "float16", "float32"), jobs=4,
)  # fmt: skip
"""On a GPU."""

DRY = Scale(
    dry=True, filters=(4,), patch=8, large_batch=3, small_batch=2, matmul=64, copy_bytes=1 << 16,
    timing_s=0.0, min_samples=2, warmup_steps=1, window_s=0.0, min_steps=2, max_steps=2, end_to_end_steps=4,
    curve_steps=4, curve_patch=8, dtypes=("float16", "float32"), jobs=1,
)  # fmt: skip
"""On a CPU. The kernels' interpreter cannot be judged in bfloat16: it truncates where a GPU rounds."""


def scale_of(dry: bool) -> Scale:
    """By ``--dry_run``."""
    return DRY if dry else REAL


def dtype_of(name: str) -> torch.dtype:
    """``bfloat16``, ``float16`` or ``float32``."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def ndhwc(shape: Sequence[int], dtype: torch.dtype, device: torch.device, seed: int) -> torch.Tensor:
    """Normal noise, N x C x D x H x W in ``channels_last_3d``, made in place: it may fill half the memory."""
    samples, channels, *space = shape
    generator = torch.Generator(device).manual_seed(seed)
    flat = torch.empty((samples, *space, channels), dtype=dtype, device=device)
    return flat.normal_(generator=generator).permute(0, 4, 1, 2, 3)
