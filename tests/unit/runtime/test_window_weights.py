"""The weights of windows axis by axis, against those of a whole window and their sums over a volume."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.windows import WindowPlan
from runtime.window_weights import axis_sums, axis_weights


def old_importance(shape: tuple[int, int, int]) -> Tensor:
    """The window's weights as one volume, as the reference makes them."""
    axes = []
    for size in shape:
        offset = np.arange(size) - (size - 1) / 2
        axes.append(np.exp(-0.5 * (offset / (0.125 * size)) ** 2))
    weights = np.cbrt(np.einsum("i,j,k->ijk", *axes))
    return torch.from_numpy(weights / weights.max()).float()


@pytest.mark.parametrize("shape", [(128, 128, 128), (9, 16, 31), (1, 2, 3)])
def test_weights_are_the_old_ones_within_an_ulp(shape: tuple[int, int, int]) -> None:
    d, h, w = (axis_weights(size, "gaussian") for size in shape)
    found, old = (d[:, None, None] * h[:, None] * w).float(), old_importance(shape)
    assert max(weight.max().item() for weight in (d, h, w)) == 1
    assert (found.view(torch.int32) - old.view(torch.int32)).abs().max() <= 1


def test_sums_of_weights_are_products_of_one_number_an_axis() -> None:
    shape, window = (50, 33, 64), (16, 12, 32)
    plan = WindowPlan.of(shape, window, 0.7)
    padded = [s.stop - s.start + sum(pad) for s, pad in zip(plan.kept, plan.padding, strict=True)]
    d, h, w = (axis_weights(size, "gaussian") for size in window)
    total = torch.zeros(padded, dtype=torch.float64)
    for start in plan.starts:
        total[*(slice(s, s + size) for s, size in zip(start, window, strict=True))] += (
            d[:, None, None] * h[:, None] * w
        )
    z, y, x = (
        axis_sums(weights, starts, size)
        for weights, starts, size in zip((d, h, w), plan.axis_starts, padded, strict=True)
    )
    torch.testing.assert_close(z[:, None, None] * y[:, None] * x, total, rtol=1e-14, atol=0)
