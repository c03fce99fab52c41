"""Crop windows against windows recorded from the MLPerf reference on KiTS19 case_00015.

``data/crops_case_00015.npz`` holds 1,000 foreground-biased and 4,000 unbiased windows of the reference's
``RandBalancedCrop``. The label itself is not part of the repository: of it the tests need the shape and the
three boxes below, which the tests marked ``shared`` derive again from the real label.
"""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from pipelines.draw import Box, DrawConfig, draw
from pipelines.foreground import foreground_boxes
from preprocess.spec import MIN_SHAPE, TARGET_SPACING_MM

RECORDED = np.load(Path(__file__).parent / "data" / "crops_case_00015.npz")
SHAPE = (140, 300, 300)
BOXES = (
    (Box((68, 161, 180), (124, 229, 245)), Box((53, 165, 64), (120, 223, 121))),
    (Box((98, 155, 187), (120, 182, 211)),),
)
DRAWS = 4000


def starts(oversampling: float, seed: int) -> np.ndarray:
    config = DrawConfig(oversampling=oversampling)
    return np.array(
        [
            draw(config, seed=seed, epoch=1, sample=i, volume_shape=SHAPE, boxes=lambda: BOXES)[0].start
            for i in range(DRAWS)
        ]
    )


@pytest.mark.parametrize(("oversampling", "recorded"), [(1.0, "foreground_windows"), (0.0, "random_windows")])
def test_windows_follow_the_recorded_distribution(oversampling: float, recorded: str) -> None:
    ours, theirs = starts(oversampling, seed=5), RECORDED[recorded][:, ::2]
    for axis in range(3):
        assert ks_2samp(ours[:, axis], theirs[:, axis]).pvalue > 0.01
    # The shortest axis leaves 13 places: the same ones are drawn, so the ends are treated alike.
    np.testing.assert_array_equal(np.unique(ours[:, 0]), np.unique(theirs[:, 0]))


def test_the_two_kinds_of_window_are_told_apart() -> None:
    """The comparison above has the power to fail: biased windows do not pass for unbiased ones."""
    theirs = RECORDED["random_windows"][:, ::2]
    assert all(ks_2samp(starts(1.0, 5)[:, axis], theirs[:, axis]).pvalue < 1e-6 for axis in range(3))


def test_the_last_offset_of_an_unbiased_crop_is_never_drawn() -> None:
    limits = np.array(SHAPE) - 128
    np.testing.assert_array_equal(RECORDED["random_windows"][:, ::2].max(axis=0), limits - 1)
    np.testing.assert_array_equal(starts(0.0, 5).max(axis=0), limits - 1)


@pytest.mark.parametrize("oversampling", [0.4, 0.7])
def test_mixture_of_biased_and_unbiased_windows(oversampling: float) -> None:
    # Only the border rule of biased windows reaches the last place of the shortest axis.
    share = (starts(oversampling, seed=9)[:, 0] == SHAPE[0] - 128).mean()
    expected = oversampling * (RECORDED["foreground_windows"][:, 0] == SHAPE[0] - 128).mean()
    assert share == pytest.approx(expected, abs=0.03)


@pytest.fixture(scope="module")
def real_label(shared: Path) -> np.ndarray:
    nifti = nibabel.load(shared / "kits19" / "case_00015" / "segmentation.nii.gz")
    label = np.asanyarray(nifti.dataobj).astype(np.float32)
    spacing = np.array(nifti.header.get_zooms()[:3], dtype=np.float64)
    size = (spacing / TARGET_SPACING_MM * label.shape).astype(int).tolist()
    resampled = torch.nn.functional.interpolate(torch.from_numpy(label)[None, None], size=size)[0, 0]
    assert all(n >= m for n, m in zip(resampled.shape, MIN_SHAPE, strict=True)), "this case needs no padding"
    return resampled.numpy().astype(np.uint8)


@pytest.mark.shared
def test_boxes_of_the_real_label(real_label: np.ndarray) -> None:
    assert real_label.shape == SHAPE == tuple(RECORDED["shape"])
    assert foreground_boxes(real_label) == BOXES


@pytest.mark.shared
def test_foreground_in_biased_windows(real_label: np.ndarray) -> None:
    fractions = np.empty((1000, 2))
    for i, (z, y, x) in enumerate(starts(1.0, seed=5)[:1000]):
        patch = real_label[z : z + 128, y : y + 128, x : x + 128]
        fractions[i] = [(patch == 1).mean(), (patch == 2).mean()]
    theirs = RECORDED["foreground_voxel_fraction"]
    for kind in range(2):
        assert ks_2samp(fractions[:, kind], theirs[:, kind]).pvalue > 0.01
    np.testing.assert_allclose(fractions.mean(axis=0), theirs.mean(axis=0), rtol=0.05)
