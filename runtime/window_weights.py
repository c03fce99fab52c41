"""How much the voxels of a window count where windows overlap, axis by axis: both the weights of a window and
the sums of a volume's windows are products of one number per axis.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def axis_weights(size: int, mode: str, device: torch.device | str = "cpu") -> Tensor:
    """float64 weights along an axis of a window of ``size`` voxels, the largest 1. They are computed on the
    device, since a copy from the host would wait for all that is queued there.

    ``gaussian`` is the reference's: the cube root of a separable Gaussian of sigma 0.125 x size, which
    widens it to an effective sigma of sqrt(3) x 0.125 x size. The reference builds a cube from the first
    edge; for the cubes MLPerf prescribes this is the same.

    Raises:
        ValueError: ``mode`` is neither ``gaussian`` nor ``constant``.
    """
    if mode == "constant":
        return torch.ones(size, dtype=torch.float64, device=device)
    if mode != "gaussian":
        raise ValueError(f"mode must be gaussian or constant, found {mode!r}")
    offset = torch.arange(size, dtype=torch.float64, device=device) - (size - 1) / 2
    weights = torch.exp((offset / (0.125 * size)).square() / -6)
    return weights / weights.max()


def axis_sums(weights: Tensor, starts: Iterable[int], size: int) -> Tensor:
    """What the weights of windows at ``starts`` add up to along an axis of ``size`` voxels."""
    total = weights.new_zeros(size)
    for start in starts:
        total[start : start + len(weights)] += weights
    return total
