"""Sliding windows against the MLPerf reference's rule, restated without this program's own formulas."""

import itertools

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipelines.windows import WindowPlan, count_windows
from runtime.inference import sliding_window_inference

Shape = tuple[int, int, int]


def network(v: Tensor) -> Tensor:
    """Two classes, which differ with the place in the window."""
    ramp = torch.linspace(0, 1, v.shape[-1], dtype=v.dtype)
    return torch.cat((v * ramp, torch.sin(v) - ramp), dim=1)


def of_the_reference(volume: np.ndarray, window: int, overlap: float) -> tuple[np.ndarray, list[slice]]:
    """Its ``sliding_window_inference`` in float64, for one cubic window; and what it keeps of the volume."""
    stride = int(window * (1 - overlap))
    kept, paddings = [], []
    for size in volume.shape:
        bound = size % stride
        bound = bound if bound < stride // 2 else 0
        kept.append(slice(bound // 2, size - (bound - bound // 2)))
        cropped = size - bound
        missing = (stride - cropped % stride) % stride
        if cropped + missing < window:
            missing += stride
        paddings.append((missing // 2, missing - missing // 2))
    inside = volume[tuple(kept)]
    padded = np.pad(inside, paddings, constant_values=-2.2)
    line = np.exp(-0.5 * ((np.arange(window) - (window - 1) / 2) / (0.125 * window)) ** 2)
    weight = np.cbrt(line[:, None, None] * line[:, None] * line)
    weight /= weight.max()
    result, total = np.zeros((2, *padded.shape)), np.zeros(padded.shape)
    for corner in itertools.product(*(range(0, size - window + 1, stride) for size in padded.shape)):
        place = tuple(slice(start, start + window) for start in corner)
        result[(slice(None), *place)] += (
            network(torch.from_numpy(padded[place])[None, None]).numpy()[0] * weight
        )
        total[place] += weight
    back = tuple(slice(low, low + size) for (low, _), size in zip(paddings, inside.shape, strict=True))
    return (result / total)[(slice(None), *back)], kept


@st.composite
def cubes(draw: st.DrawFn) -> tuple[Shape, int, float]:
    """A volume of odd sizes that the reference takes: no axis is shorter than the window."""
    window, overlap = draw(st.sampled_from([(8, 0.5), (8, 0.75), (12, 0.5), (5, 0.0)]))
    shape = draw(st.tuples(*[st.integers(window, 3 * window + 1)] * 3))
    return shape, window, overlap


@settings(max_examples=30)
@given(cubes(), st.integers(0, 2**32 - 1), st.sampled_from([1, 4]))
def test_logits_and_labels_are_the_references(
    cube: tuple[Shape, int, float], seed: int, batch_size: int
) -> None:
    shape, window, overlap = cube
    rng = np.random.default_rng(seed)
    volume, label = rng.standard_normal(shape), rng.integers(0, 3, shape, dtype=np.uint8)
    result, kept_label = sliding_window_inference(
        torch.from_numpy(volume)[None, None], torch.from_numpy(label)[None, None], (window,) * 3, network,
        overlap, batch_size=batch_size,
    )  # fmt: skip
    expected, kept = of_the_reference(volume, window, overlap)
    np.testing.assert_allclose(result[0], expected, atol=1e-5)
    np.testing.assert_array_equal(kept_label[0, 0], label[tuple(kept)])


@settings(max_examples=60)
@given(st.tuples(*[st.integers(1, 60)] * 3), st.tuples(*[st.integers(2, 20)] * 3), st.floats(0, 0.95))
def test_windows_cover_what_is_kept_and_none_is_run_in_vain(
    shape: Shape, window: Shape, overlap: float
) -> None:
    assume(int(min(window) * (1 - overlap)) >= 1)
    plan = WindowPlan.of(shape, window, overlap)
    for axis, (size, roi) in enumerate(zip(shape, window, strict=True)):
        kept = range(size)[plan.kept[axis]]
        low, high = plan.padding[axis]
        starts = plan.axis_starts[axis]
        covered = {voxel for start in starts for voxel in range(start, start + roi)}
        assert covered == set(range(low + len(kept) + high))
        assert all(start < low + len(kept) and start + roi > low for start in starts)
        # Never both; and what is cut is less than half a stride.
        assert len(kept) == size or low == high == 0
        assert size - len(kept) < max(1, starts.step / 2)
    assert count_windows(shape, window, overlap) == len(plan.starts)
