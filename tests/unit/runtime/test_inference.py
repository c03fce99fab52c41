"""Sliding windows against their definition, voxel by voxel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtime.inference import count_windows, crop_margins, pad_margins, sliding_window_inference


def two_classes(v: Tensor) -> Tensor:
    """A network that sees where in the window it is."""
    ramp = torch.linspace(0, 1, v.shape[-1])
    return torch.cat((v * ramp, torch.sin(v) + ramp), dim=1)


def by_definition(volume: Tensor, window: tuple[int, int, int], overlap: float, mode: str) -> np.ndarray:
    """A float64 loop over windows of a volume that needs neither crop nor pad on the inside."""
    strides = [int(w * (1 - overlap)) for w in window]
    crops = [crop_margins(*axis) for axis in zip(volume.shape[2:], strides, window, strict=True)]
    inside = [slice(low, s - high) for (low, high), s in zip(crops, volume.shape[2:], strict=True)]
    volume = volume[:, :, *inside].double()
    pads = [pad_margins(*axis) for axis in zip(volume.shape[2:], strides, window, strict=True)]
    padded = np.pad(volume.numpy(), [(0, 0), (0, 0), *pads], constant_values=-2.2)
    offsets = np.meshgrid(*(np.arange(w) - (w - 1) / 2 for w in window), indexing="ij")
    exponent = sum((o / (0.125 * w)) ** 2 for o, w in zip(offsets, window, strict=True))
    weight = np.cbrt(np.exp(-0.5 * exponent)) if mode == "gaussian" else np.ones(window)
    result, total = np.zeros((1, 2, *padded.shape[2:])), np.zeros(padded.shape[2:])
    for z in range(0, padded.shape[2] - window[0] + 1, strides[0]):
        for y in range(0, padded.shape[3] - window[1] + 1, strides[1]):
            for x in range(0, padded.shape[4] - window[2] + 1, strides[2]):
                place = np.s_[z : z + window[0], y : y + window[1], x : x + window[2]]
                patch = torch.from_numpy(padded[(0, 0, *place)][None, None])
                result[(0, slice(None), *place)] += two_classes(patch).numpy()[0] * weight
                total[place] += weight
    back = [slice(low, low + s) for (low, _), s in zip(pads, volume.shape[2:], strict=True)]
    return (result / total)[:, :, *back]


sizes = st.integers(5, 40)


@settings(max_examples=40)
@given(
    st.tuples(sizes, sizes, sizes),
    st.sampled_from([(8, 8, 8), (16, 8, 12), (10, 16, 8)]),
    st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    st.sampled_from(["gaussian", "constant"]),
)
def test_equals_the_definition(
    shape: tuple[int, int, int], window: tuple[int, int, int], overlap: float, mode: str
) -> None:
    volume = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(sum(shape)))
    label = torch.zeros_like(volume, dtype=torch.uint8)
    result, label = sliding_window_inference(volume, label, window, two_classes, overlap, mode)
    expected = by_definition(volume, window, overlap, mode)
    assert result.shape[2:] == label.shape[2:] == expected.shape[2:]
    assert not np.isnan(expected).any()
    np.testing.assert_allclose(result, expected, atol=1e-5)


@given(st.tuples(sizes, sizes, sizes), st.sampled_from([0.0, 0.5, 0.7]))
def test_count_windows(shape: tuple[int, int, int], overlap: float) -> None:
    calls = []

    def network(v: Tensor) -> Tensor:
        calls.append(v)
        return v

    volume = torch.zeros(1, 1, *shape)
    sliding_window_inference(volume, volume, (16, 8, 8), network, overlap)
    assert count_windows(shape, (16, 8, 8), overlap) == len(calls)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "median"}, "gaussian or constant"),
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
    ],
)
def test_wrong_arguments(changes: dict[str, object], message: str) -> None:
    volume = torch.zeros(1, 1, 8, 8, 8)
    with pytest.raises(ValueError, match=message):
        sliding_window_inference(volume, volume, (8, 8, 8), two_classes, **changes)  # type: ignore[arg-type]


def test_a_batch_of_volumes_is_refused() -> None:
    volume = torch.zeros(2, 1, 8, 8, 8)
    with pytest.raises(ValueError, match="one volume"):
        sliding_window_inference(volume, volume, (8, 8, 8), two_classes)


def test_low_precision_windows_are_accumulated_in_float32() -> None:
    volume = torch.rand(1, 1, 24, 24, 24)
    result, _ = sliding_window_inference(volume, volume, (16, 16, 16), lambda v: two_classes(v).bfloat16())
    assert result.dtype == torch.float32
    # One rounding of a logit to bfloat16 each, and no accumulated one.
    np.testing.assert_allclose(
        result, by_definition(volume, (16, 16, 16), 0.5, "gaussian"), rtol=2**-8, atol=2**-8
    )
