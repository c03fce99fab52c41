"""The six real segmentations come out with the published md5, to the last bit."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from preprocess.files import file_md5
from preprocess.nifti import read_header, write_volume
from preprocess.verify import load_table

CASES = (3, 4, 7, 15, 23, 160)


@pytest.mark.shared
def test_real_labels_have_the_published_md5(shared: Path, tmp_path: Path, preprocess) -> None:
    for case_id in CASES:
        case = tmp_path / "raw" / f"case_{case_id:05d}"
        case.mkdir(parents=True)
        label = case / "segmentation.nii.gz"
        shutil.copy(shared / "kits19" / case.name / label.name, label)
        header = read_header(label)
        depth, height, width = header.shape
        with (case / "imaging.nii.gz").open("wb") as file:
            plane = np.zeros((height, depth), np.int16)
            write_volume(file, (plane for _ in range(width)), header.shape, header.spacing, np.int16)
    assert {nibabel.load(path).get_data_dtype().name for path in tmp_path.rglob("seg*")} == {
        "uint8",
        "uint16",
    }
    result = preprocess("--data_dir", tmp_path / "raw", "--results_dir", tmp_path / "out")
    assert result.status == 0, result.err
    table = load_table()
    names = [f"case_{case_id:05d}_y.npy" for case_id in CASES]
    assert {name: file_md5(tmp_path / "out" / name) for name in names} == {
        name: table[name] for name in names
    }
