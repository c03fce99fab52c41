"""The plane-by-plane path against torch's interpolate on the whole volume, bit by bit; golden numbers."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from preprocess import volume
from preprocess.geometry import padding, resampled_shape

SHAPES = [
    ((20, 33, 47), (37, 21, 30)),
    ((61, 48, 50), (40, 70, 90)),
    ((1, 5, 50), (3, 64, 100)),
    ((13, 64, 64), (16, 1, 37)),
    ((17, 18, 19), (17, 18, 19)),
    ((30, 40, 33), (1, 17, 16)),
]
Shape = tuple[int, int, int]


def planes(whole: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(whole[:, :, w].T) for w in range(whole.shape[2])]


@pytest.mark.parametrize(("shape_in", "shape_out"), SHAPES)
def test_image_has_the_bits_of_interpolate(shape_in: Shape, shape_out: Shape) -> None:
    whole = (400 * np.random.default_rng(0).normal(size=shape_in)).astype(np.float32)
    expected = interpolate(
        torch.from_numpy(whole)[None, None], size=shape_out, mode="trilinear", align_corners=True
    )
    slabs = [slab.copy() for slab in volume.resample_image(planes(whole), shape_in, shape_out)]
    assert np.array_equal(np.stack(slabs), expected[0, 0].numpy())


@pytest.mark.parametrize(("shape_in", "shape_out"), SHAPES)
def test_label_has_the_voxels_of_interpolate(shape_in: Shape, shape_out: Shape) -> None:
    whole = np.random.default_rng(0).integers(0, 3, shape_in, np.uint8)
    expected = interpolate(torch.from_numpy(whole)[None, None], size=shape_out, mode="nearest")[0, 0].numpy()
    assert np.array_equal(volume.resample_label(planes(whole), shape_in, shape_out), expected)


def test_the_claim_of_equal_bits_holds_here() -> None:
    assert volume.rounds_like_interpolate()


def test_the_check_of_the_claim_notices_other_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = volume.linear_taps

    def other(length_in: int, length_out: int) -> object:
        taps = exact(length_in, length_out)
        taps.w0[:] = np.nextafter(taps.w0, np.float32(2))
        return taps

    monkeypatch.setattr(volume, "linear_taps", other)
    assert not volume.rounds_like_interpolate()


def test_normalise_is_the_float32_arithmetic_of_the_reference() -> None:
    values = np.random.default_rng(0).normal(100, 300, (50, 60)).astype(np.float32)
    expected = (np.clip(values, -79.0, 304.0) - 101.0) / 76.9
    assert expected.dtype == np.float32
    result = volume.normalise(values)
    assert result is values
    assert np.array_equal(result, expected)


def test_padding_repeats_the_edges() -> None:
    whole = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    widths = ((2, 3), (0, 1), (4, 0))
    assert np.array_equal(np.stack(list(volume.pad_slabs(whole, widths))), np.pad(whole, widths, mode="edge"))


def test_padding_copes_with_a_buffer_that_is_reused() -> None:
    def reused() -> object:
        buffer = np.empty((2, 2), np.float32)
        for value in range(3):
            buffer[:] = value
            yield buffer

    padded = [slab[0, 0].copy() for slab in volume.pad_slabs(reused(), ((1, 2), (0, 0), (0, 0)))]
    assert padded == [0, 0, 1, 2, 2, 2]


def test_the_reference_golden_numbers() -> None:
    golden = np.load(Path(__file__).with_name("golden.npz"))
    d, h, w = (int(n) for n in golden["pre_shape_in"])
    index = np.arange(d * h * w)
    image = (400 * np.sin(0.37 * index) + 50).astype(np.float32).reshape(d, h, w)
    label = (index // 7 % 3).astype(np.uint8).reshape(d, h, w)
    shape = resampled_shape((d, h, w), tuple(golden["pre_spacing"].tolist()))
    widths = padding(shape)
    slabs = map(volume.normalise, volume.resample_image(planes(image), (d, h, w), shape))
    ours = np.stack([slab.copy() for slab in volume.pad_slabs(slabs, widths)])
    labels = np.pad(volume.resample_label(planes(label), (d, h, w), shape), widths, mode="edge")

    assert (1, *ours.shape) == tuple(golden["pre_shape_out"])
    probed = golden["pre_probe_index"]
    # The golden numbers come from another machine; the bits are compared with this machine's torch above.
    np.testing.assert_allclose(ours.ravel()[probed], golden["pre_probe_image"], rtol=0, atol=2e-6)
    assert np.array_equal(labels.ravel()[probed], golden["pre_probe_label"])
    assert hashlib.md5(labels.tobytes()).hexdigest() == str(golden["pre_label_md5"])
    assert ours.mean(dtype=np.float64) == pytest.approx(float(golden["pre_image_mean"]), abs=1e-6)
    assert ours.std(dtype=np.float64) == pytest.approx(float(golden["pre_image_std"]), abs=1e-6)
