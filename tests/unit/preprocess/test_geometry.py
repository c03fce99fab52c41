import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import CaseError
from preprocess.geometry import linear_taps, nearest_index, padded_shape, padding, resampled_shape

lengths = st.integers(1, 800)


@given(lengths, lengths)
def test_nearest_picks_what_interpolate_picks(length_in: int, length_out: int) -> None:
    indices = torch.arange(length_in, dtype=torch.float32)[None, None]
    expected = torch.nn.functional.interpolate(indices, size=length_out, mode="nearest")[0, 0]
    assert np.array_equal(nearest_index(length_in, length_out), expected.numpy())


@given(lengths, lengths)
def test_linear_taps_agree_with_interpolate_to_rounding(length_in: int, length_out: int) -> None:
    values = np.random.default_rng(length_in).normal(size=length_in).astype(np.float32)
    taps = linear_taps(length_in, length_out)
    ours = values[taps.i0].astype(np.float64) * taps.w0 + values[taps.i1].astype(np.float64) * taps.w1
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=length_out, mode="linear", align_corners=True
    )
    np.testing.assert_allclose(ours, expected[0, 0].numpy(), atol=1e-6)
    assert np.all(np.diff(taps.i0) >= 0)
    assert np.all((taps.i1 == taps.i0 + 1) | (taps.i1 == length_in - 1))


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((270, 512, 512), (1.0, 0.85546875, 0.85546875), (168, 365, 365)),
        ((61, 512, 512), (3.0, 0.9394531, 0.9394531), (114, 400, 400)),
        ((252, 512, 796), (1.0, 0.45117188, 0.45117188), (157, 192, 299)),
    ],
)
def test_resampled_shape_rounds_down(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], expected: tuple[int, int, int]
) -> None:
    assert resampled_shape(shape, spacing) == expected


def test_a_volume_too_thin_to_resample_is_named() -> None:
    with pytest.raises(CaseError, match="check the spacing"):
        resampled_shape((3, 512, 512), (0.1, 0.8, 0.8))


@given(st.tuples(lengths, lengths, lengths))
def test_padding_reaches_128_and_puts_the_odd_voxel_behind(shape: tuple[int, int, int]) -> None:
    for length, (before, after), final in zip(shape, padding(shape), padded_shape(shape), strict=True):
        assert length + before + after == final == max(128, length)
        assert after - before in (0, 1)
