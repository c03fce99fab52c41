"""Phantoms: the same for the same seed, the fixed split among them, learnable after preprocessing."""

import math
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from preprocess.geometry import padded_shape, resampled_shape
from preprocess.manifest import Manifest
from preprocess.phantom import main, phantom_ids
from preprocess.phantom_case import TINY_TUMOUR_ID, case_generator, draw_raw_geometry
from preprocess.spec import CLIP_MAX_HU, CLIP_MIN_HU, MEAN_HU, MIN_SHAPE, STDDEV_HU, evaluation_ids

ROOT = Path(__file__).resolve().parents[3]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "raw"
    assert main(["--out", str(folder), "--cases", "4", "--seed", "7"]) == 0
    return folder


@pytest.mark.parametrize("cases", [2, 3, 5, 10, 42, 209, 210])
def test_a_fifth_of_the_ids_are_evaluation_cases(cases: int) -> None:
    ids = phantom_ids(cases)
    evaluated = evaluation_ids() & set(ids)
    assert len(set(ids)) == cases
    assert ids == sorted(ids)
    assert set(ids) <= set(range(210))
    assert 1 <= len(evaluated) < cases
    assert abs(len(evaluated) - cases / 5) <= 0.6
    assert TINY_TUMOUR_ID in set(ids) - evaluated


def test_210_cases_are_all_ids() -> None:
    assert phantom_ids(210) == list(range(210))


def test_raw_cases_depend_on_seed_and_id_alone(raw: Path, tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path / "more"), "--cases", "6", "--seed", "7", "--workers", "1"]) == 0
    assert main(["--out", str(tmp_path / "other"), "--cases", "2", "--seed", "8"]) == 0
    first, more, other = contents(raw), contents(tmp_path / "more"), contents(tmp_path / "other")
    assert first.items() <= more.items()
    assert len(more) == 2 * 6 + 1
    assert not {name for name in other if first[name] == other[name]}


def test_raw_cases_look_like_kits19(raw: Path) -> None:
    for case in sorted(raw.glob("case_*")):
        image, label = (nibabel.load(case / f"{name}.nii.gz") for name in ("imaging", "segmentation"))
        assert image.shape == label.shape
        assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
        slices, row, column = image.header["pixdim"][1:4]
        assert slices > row == column
        hu, classes = np.asanyarray(image.dataobj), np.asanyarray(label.dataobj)
        assert np.unique(classes).tolist() == [0, 1, 2]
        kidney, tumour = (np.median(hu[classes == c]) for c in (1, 2))
        assert CLIP_MIN_HU < kidney < tumour < CLIP_MAX_HU
        assert tumour - kidney > 60
        left, right = (classes[:, :, : classes.shape[2] // 2], classes[:, :, classes.shape[2] // 2 :])
        assert 0.003 < (left > 0).mean() < 0.1
        assert 0.003 < (right > 0).mean() < 0.1


def test_tumours_touch_a_kidney_and_one_case_has_a_tiny_one(raw: Path) -> None:
    shares = {}
    for case in sorted(raw.glob("case_*")):
        classes = np.asanyarray(nibabel.load(case / "segmentation.nii.gz").dataobj)
        tumour = np.argwhere(classes == 2)
        shares[int(case.name[-5:])] = len(tumour) / classes.size
        low, high = tumour.min(axis=0) - 1, tumour.max(axis=0) + 2
        assert (classes[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] == 1).any()
    tiny = shares.pop(TINY_TUMOUR_ID)
    assert 0 < tiny < 2e-4
    assert min(shares.values()) > 5 * tiny


def test_preprocessed_phantoms_are_easy_to_segment(raw: Path, tmp_path: Path, preprocess) -> None:
    """Thresholds alone, with no idea of shape, nearly reach the target Dice: 0.90 of 0.908."""
    assert preprocess("--data_dir", raw, "--results_dir", tmp_path).status == 0
    assert Manifest.load(tmp_path).origin == "phantom"
    assert Manifest.load(tmp_path).origin_detail["seed"] == 7
    scores = []
    for case_id in sorted(set(phantom_ids(4)) - {TINY_TUMOUR_ID}):
        hu = np.load(tmp_path / f"case_{case_id:05d}_x.npy")[0] * STDDEV_HU + MEAN_HU
        label = np.load(tmp_path / f"case_{case_id:05d}_y.npy")[0]
        assert hu.shape == label.shape
        assert max(hu.shape) <= 140
        off_spine = np.abs(np.linspace(-1, 1, hu.shape[2])) > 0.2
        guess = np.where(hu > 190, 2, np.where(hu > 88, 1, 0)) * off_spine
        for c in (1, 2):
            scores.append(2 * np.sum((guess == c) & (label == c)) / (np.sum(guess == c) + np.sum(label == c)))
    assert np.mean(scores) > 0.90


def test_the_kits19_profile_has_the_sizes_of_kits19() -> None:
    voxels, slices = [], []
    for case_id in range(210):
        shape, spacing = draw_raw_geometry(case_generator(0, case_id), "kits19")
        voxels.append(math.prod(padded_shape(resampled_shape(shape, spacing))))
        slices.append(shape[0])
        assert shape[1:] == (512, 512)
        assert 0.5 <= spacing[0] <= 5
        assert 0.7 <= spacing[1] == spacing[2] <= 0.9
    assert np.mean(voxels) == pytest.approx(29.3e6, rel=0.05)
    assert np.std(voxels) == pytest.approx(13.6e6, rel=0.15)
    assert max(slices) <= 611


@pytest.mark.parametrize("profile", ["tiny", "kits19"])
def test_preprocessed_pairs_come_with_a_manifest(tmp_path: Path, profile: str) -> None:
    assert main(["--out", str(tmp_path), "--cases", "2", "--preprocessed", "--profile", profile]) == 0
    manifest = Manifest.load(tmp_path)
    assert manifest.origin == "phantom"
    assert sorted(manifest.cases) == ["case_00000", "case_00001"]
    for name, record in manifest.cases.items():
        image, label = np.load(tmp_path / f"{name}_x.npy", mmap_mode="r"), np.load(tmp_path / f"{name}_y.npy")
        assert image.shape == label.shape == (1, *record.shape)
        assert all(n >= least for n, least in zip(record.shape, MIN_SHAPE, strict=True))
        assert (image.dtype, label.dtype) == (np.float32, np.uint8)
        assert np.unique(label).tolist() == [0, 1, 2]
        assert image.min() == pytest.approx((CLIP_MIN_HU - MEAN_HU) / STDDEV_HU, rel=1e-6)
        assert image.max() <= np.float32((CLIP_MAX_HU - MEAN_HU) / STDDEV_HU)
        assert record.mean == pytest.approx(image.mean(dtype=np.float64), abs=1e-6)
        assert record.std == pytest.approx(image.std(dtype=np.float64), abs=1e-6)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_shape_of_ones_own(tmp_path: Path) -> None:
    flags = ["--preprocessed", "--shape", "32", "24", "40", "--cases", "12"]
    assert main(["--out", str(tmp_path), *flags]) == 0
    assert len(list(tmp_path.glob("*_x.npy"))) == 12
    for path in tmp_path.glob("*_y.npy"):
        label = np.load(path)
        assert label.shape == (1, 32, 24, 40)
        assert np.unique(label).tolist() == [0, 1, 2]


def test_preprocessed_needs_numpy_only(tmp_path: Path) -> None:
    """In an interpreter where nothing else of ours can be imported."""
    for name in ("torch", "nibabel", "isal", "tqdm"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not on this machine')")
    command = [sys.executable, "-m", "preprocess.phantom", "--out", str(tmp_path / "out"), "--cases", "2"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    flags = ["--preprocessed", "--shape", "16", "16", "16"]
    run = subprocess.run(
        [*command, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "out").glob("*.npy"))) == 4
    raw = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert raw.returncode != 0  # the blocked libraries are what raw cases need


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--cases", "1"], "expected 2 (one to train, one to evaluate) to 210"),
        (["--cases", "211"], "expected 2"),
        (["--shape", "8", "8", "8"], "--shape goes with --preprocessed"),
        (["--preprocessed", "--shape", "8", "8"], "expected 3 arguments"),
        (["--preprocessed", "--shape", "8", "8", "0"], "0 is not at least 1"),
        (["--seed", "-1"], "--seed is 0 or above"),
        (["--profile", "large"], "invalid choice"),
        (["--total_gb", "1"], "--total_gb goes with --preprocessed"),
        (["--preprocessed", "--total_gb", "1", "--shape", "8", "8", "8"], "drop --shape"),
        (["--preprocessed", "--total_gb", "1", "--cases", "4"], "drop --cases"),
        (["--preprocessed", "--total_gb", "1", "--profile", "tiny"], "drop --profile"),
        (["--preprocessed", "--total_gb", "-1"], "-1 is not a number of 10^9 bytes above 0"),
        (["--preprocessed", "--total_gb", "nan"], "nan is not a number of 10^9 bytes above 0"),
        (["--preprocessed", "--total_gb", "much"], "invalid"),
        (["--preprocessed", "--total_gb", "0.1"], "--total_gb 0.1 does not make 2"),
        (["--preprocessed", "--total_gb", "1e9"], "to 100000 cases of about 0.147 GB; give less"),
    ],
)
def test_wrong_flags_exit_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    try:
        status = main(["--out", str(tmp_path / "out"), *flags])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_phantoms_do_not_join_other_cases(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(raw)
    assert main(["--out", str(raw), "--cases", "4", "--seed", "8"]) == 2
    assert "holds cases from phantom seed=7" in capsys.readouterr().err
    (tmp_path / "case_00000").mkdir()
    assert main(["--out", str(tmp_path), "--cases", "2"]) == 2
    assert "holds cases from kits19" in capsys.readouterr().err
    assert contents(raw) == before
