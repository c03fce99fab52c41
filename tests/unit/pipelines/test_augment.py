import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.augment import apply, crop
from pipelines.draw import Augmentation, CropWindow

SHAPE = (6, 5, 4)
PLAIN = Augmentation((False, False, False), 1.0, 0.0, 7)


def patch(shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 3, shape, dtype=np.uint8)


def augmented(
    augmentation: Augmentation, shape: tuple[int, int, int] = SHAPE
) -> tuple[np.ndarray, np.ndarray]:
    out = np.full(shape, np.nan, np.float32), np.full(shape, 255, np.uint8)
    apply(*patch(shape), augmentation, *out)
    return out


@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_flips_then_brightness_as_the_reference_does_them(flips: tuple[bool, bool, bool]) -> None:
    image, label = patch()
    for axis in range(3):
        if flips[axis]:
            image, label = np.flip(image, axis), np.flip(label, axis)
    bright = (image.astype(np.float64) * 1.9).astype(np.float32)
    out_image, out_label = augmented(Augmentation(flips, 1.9, 0.0, 7))
    np.testing.assert_array_max_ulp(out_image, bright, maxulp=1)
    np.testing.assert_array_equal(out_label, label)
    np.testing.assert_array_equal(augmented(PLAIN._replace(flips=flips))[0], image)


@given(st.data())
@settings(max_examples=30)
def test_crop_is_the_window_of_the_volume(data: st.DataObject) -> None:
    volume = np.arange(10 * 11 * 12).reshape(10, 11, 12)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in volume.shape)
    shape = tuple(data.draw(st.integers(1, n - a)) for n, a in zip(volume.shape, start, strict=True))
    z, y, x = np.meshgrid(*(np.arange(a, a + n) for a, n in zip(start, shape, strict=True)), indexing="ij")
    np.testing.assert_array_equal(crop(volume, CropWindow(start, shape)), (z * 11 + y) * 12 + x)


def test_noise_is_gaussian_and_touches_the_image_only() -> None:
    shape = (64, 64, 40)
    clean = augmented(PLAIN, shape)
    noisy = augmented(PLAIN._replace(noise_sigma=0.08), shape)
    noise = (noisy[0].astype(np.float64) - clean[0]) / 0.08
    count = noise.size
    assert abs(noise.mean()) < 4 / count**0.5
    assert noise.std() == pytest.approx(1, abs=4 / (2 * count) ** 0.5)
    # Shares beyond 1, 2 and 3 standard deviations of a normal distribution.
    shares = [(np.abs(noise) > k).mean() for k in (1, 2, 3)]
    np.testing.assert_allclose(shares, [0.3173, 0.0455, 0.0027], rtol=0.1)
    # Voxels of one chunk do not return in the next, nor next to each other.
    flat = noise.reshape(-1)
    for lag in (1, 16, 1 << 16):
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 4 / (count - lag) ** 0.5
    np.testing.assert_array_equal(noisy[1], clean[1])


def test_noise_comes_after_brightness_and_flips() -> None:
    everything = Augmentation((True, False, True), 2.0, 0.05, 99)
    noise = augmented(PLAIN._replace(noise_sigma=0.05, noise_seed=99))[0] - patch()[0]
    expected = np.flip(patch()[0], (0, 2)) * np.float32(2.0) + noise
    np.testing.assert_allclose(augmented(everything)[0], expected, atol=1e-6)


def test_noise_follows_its_seed() -> None:
    noisy = [augmented(PLAIN._replace(noise_sigma=0.1, noise_seed=seed))[0] for seed in (5, 5, 6, 2**64 - 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.any(noisy[0] == noisy[2])
    assert not np.any(noisy[0] == noisy[3])


def test_a_patch_without_augmentation_is_copied_bit_for_bit() -> None:
    image, label = augmented(PLAIN)
    np.testing.assert_array_equal(image, patch()[0])
    np.testing.assert_array_equal(label, patch()[1])
