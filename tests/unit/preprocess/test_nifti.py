"""Streamed voxels against nibabel's ``get_fdata``, and what we write against nibabel's reader."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from raw_cases import SPACING, formula_image, formula_label, write_nifti

from preprocess import nifti
from preprocess.errors import CaseError

DTYPES = ["<i2", ">i2", "u1", "<u2", "<i4", "<i8", "<u8", "<f4", "<f8", ">f8"]


def whole(planes: object) -> np.ndarray:
    return np.stack([plane.T for plane in planes], axis=2)


@pytest.mark.parametrize("scaling", [None, (2.0, -1024.0), (0.123, 7.7), (1.0, -1024.0)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_image_voxels_equal_get_fdata(
    tmp_path: Path, dtype: str, scaling: tuple[float, float] | None
) -> None:
    voxels = formula_image() * 1.2345 if "f" in dtype else formula_image()
    if dtype in ("<i4", "<i8", "<u8"):
        voxels = voxels.astype(np.int64) * 1_234_567
    path = tmp_path / "imaging.nii.gz"
    write_nifti(path, np.abs(voxels).astype(dtype) if "u" in dtype else voxels.astype(dtype), scaling=scaling)
    header = nifti.read_header(path)
    loaded = nibabel.load(path)
    assert header.dtype == np.dtype(dtype)
    assert (header.slope, header.inter) == pytest.approx(scaling or (1, 0))
    result = whole(nifti.image_planes(header))
    assert result.dtype == np.float32
    assert np.array_equal(result, loaded.get_fdata().astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_label_voxels_equal_get_fdata(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "segmentation.nii.gz"
    write_nifti(path, formula_label().astype(dtype))
    result = whole(nifti.label_planes(nifti.read_header(path)))
    assert result.dtype == np.uint8
    assert np.array_equal(result, formula_label())


def test_scaled_labels_are_read_as_scaled(tmp_path: Path) -> None:
    path = tmp_path / "segmentation.nii.gz"
    write_nifti(path, (formula_label().astype(np.int16) + 1) * 2, scaling=(0.5, -1.0))
    assert np.array_equal(whole(nifti.label_planes(nifti.read_header(path))), formula_label())


def test_spacing_is_the_float32_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "imaging.nii.gz"
    write_nifti(path, formula_image(), (1.6, 0.9394531, 1.2))
    assert nifti.read_header(path).spacing == tuple(float(np.float32(mm)) for mm in (1.6, 0.9394531, 1.2))


def test_a_volume_larger_than_one_chunk_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nifti, "_CHUNK_BYTES", 5 * 12 * 40 * 2
    )  # 36 planes: seven chunks of five and one plane
    path = tmp_path / "imaging.nii.gz"
    write_nifti(path, formula_image())
    assert np.array_equal(whole(nifti.image_planes(nifti.read_header(path))), formula_image())


def test_a_wrong_checksum_at_the_end_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "imaging.nii.gz"
    # Larger than the reader's buffers, so that the last voxel arrives before the checksum is looked at.
    write_nifti(path, np.random.default_rng(0).integers(0, 999, (64, 200, 200), np.int16))
    body = bytearray(path.read_bytes())
    body[-8] ^= 1
    path.write_bytes(body)
    with pytest.raises(CaseError, match=r"imaging\.nii\.gz is truncated or damaged"):
        list(nifti.image_planes(nifti.read_header(path)))


def test_float64_beyond_float32_is_refused(tmp_path: Path) -> None:
    voxels = formula_image().astype(np.float64)
    voxels[3, 4, 5] = 1e300
    write_nifti(tmp_path / "imaging.nii.gz", voxels)
    with pytest.raises(CaseError, match="first in column 5"):
        list(nifti.image_planes(nifti.read_header(tmp_path / "imaging.nii.gz")))


def test_nibabel_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "imaging.nii.gz"
    planes = [formula_image()[:, :, w].T for w in range(36)]
    for name in ("imaging.nii.gz", "again.nii.gz"):
        with (tmp_path / name).open("wb") as file:
            nifti.write_volume(file, planes, (12, 40, 36), SPACING, np.int16)
    loaded = nibabel.load(path)
    assert np.array_equal(np.asanyarray(loaded.dataobj), formula_image())
    assert loaded.header["pixdim"][1:4].tolist() == [float(np.float32(mm)) for mm in SPACING]
    assert path.read_bytes() == (tmp_path / "again.nii.gz").read_bytes()
