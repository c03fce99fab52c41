"""Whatever stands in a NIfTI header is read, or refused before room is made for it; what we write is read."""

import gzip
import io
import logging
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_cases import formula_label, write_nifti

from preprocess import nifti
from preprocess.errors import CaseError

DIM, DATATYPE, PIXDIM, VOX_OFFSET = 40, 70, 76, 108
"""Bytes where these fields of nifti1.h begin."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nifti") / "imaging.nii.gz"


@pytest.fixture(scope="module")
def body(path: Path) -> bytes:
    """A good file, decompressed."""
    write_nifti(path, formula_label((4, 5, 6)))
    return gzip.decompress(path.read_bytes())


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nibabel's remark on each damage that it mends."""
    monkeypatch.setattr(logging.getLogger("nibabel.global"), "disabled", True)


def read(path: Path) -> None:
    header = nifti.read_header(path)
    for planes in (nifti.image_planes(header), nifti.label_planes(header)):
        assert sum(1 for _ in planes) == header.shape[2]


odd = st.sampled_from(
    [b"\xff\x7f", b"\xff\xff", b"\0\0", b"\0\x80", struct.pack("<f", np.inf), struct.pack("<f", np.nan),
     struct.pack("<f", 1e30), struct.pack("<f", -5.0)]
) | st.binary(min_size=1, max_size=4)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 351), odd), min_size=1, max_size=4), st.integers(0, 500))
def test_a_damaged_file_is_read_or_refused(
    path: Path, body: bytes, changes: list[tuple[int, bytes]], length: int
) -> None:
    damaged = bytearray(body)
    for at, value in changes:
        damaged[at : at + len(value)] = value
    path.write_bytes(gzip.compress(bytes(damaged[: 352 + length]), 1))
    tracemalloc.start()
    try:
        read(path)
    except CaseError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * nifti._CHUNK_BYTES


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (DIM + 2, struct.pack("<3h", 32767, 32767, 32767), "claims .* voxels .* cannot hold"),
        (DIM + 2, struct.pack("<3h", 4, 5, -6), "shape"),
        (VOX_OFFSET, struct.pack("<f", 1e30), "cannot hold"),
        (VOX_OFFSET, struct.pack("<f", np.inf), "no readable NIfTI header"),
    ],
)
def test_what_no_file_holds_is_refused(path: Path, body: bytes, at: int, value: bytes, words: str) -> None:
    path.write_bytes(gzip.compress(body[:at] + value + body[at + len(value) :]))
    with pytest.raises(CaseError, match=words):
        nifti.read_header(path)


@settings(max_examples=40)
@given(
    st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from([np.float32, np.uint8]), st.integers(0, 2**32 - 1)
)
def test_an_array_is_read_as_it_was_written(shape: tuple[int, int, int], dtype: type, seed: int) -> None:
    voxels = (np.random.default_rng(seed).standard_normal(shape) * 50).astype(dtype)
    file = io.BytesIO()
    nifti.write_array(file, voxels, (1.6, 1.2, 1.2))
    found = nibabel.Nifti1Image.from_bytes(gzip.decompress(file.getvalue()))
    np.testing.assert_array_equal(np.asarray(found.dataobj), voxels, strict=True)
    assert found.header.get_zooms() == pytest.approx((1.6, 1.2, 1.2))
    assert found.header.get_xyzt_units()[0] == "mm"


@pytest.mark.shared
def test_axes_are_those_of_the_real_cases(shared: Path) -> None:
    real = nibabel.load(shared / "kits19" / "case_00003" / "segmentation.nii.gz")
    file = io.BytesIO()
    nifti.write_array(file, np.zeros((2, 3, 4), np.uint8), real.header.get_zooms())
    ours = nibabel.Nifti1Image.from_bytes(gzip.decompress(file.getvalue()))
    np.testing.assert_array_equal(ours.affine, real.affine)
    assert ours.header["sform_code"] == real.header["sform_code"]
