"""Every kind of bad input: named in one sentence, the other cases finish, the status is not zero."""

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from raw_cases import formula_image, formula_label, write_case, write_nifti

ROOT = Path(__file__).resolve().parents[3]
IMAGING, SEGMENTATION = "imaging.nii.gz", "segmentation.nii.gz"


def with_voxel(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[3, 4, 5] = value
    return changed


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def short_inside(path: Path) -> None:
    """A whole gzip stream that holds fewer voxels than its header says."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))


def flip_bytes(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2 : len(body) // 2 + 64] = bytes(64)
    path.write_bytes(body)


def overwrite_spacing(path: Path, spacing: tuple[float, float, float]) -> None:
    body = bytearray(gzip.decompress(path.read_bytes()))
    body[80:92] = np.array(spacing, "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(body)))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no imaging": (lambda c: (c / IMAGING).unlink(), "imaging.nii.gz is missing in"),
    "no segmentation": (lambda c: (c / SEGMENTATION).unlink(), "segmentation.nii.gz is missing in"),
    "empty folder": (lambda c: [path.unlink() for path in c.iterdir()], "imaging.nii.gz is missing in"),
    "shapes differ": (
        lambda c: write_nifti(c / SEGMENTATION, formula_label((12, 40, 35))),
        "imaging.nii.gz has shape (12, 40, 36) but segmentation.nii.gz (12, 40, 35)",
    ),
    "truncated image": (lambda c: truncate(c / IMAGING), "imaging.nii.gz is truncated or damaged"),
    "truncated label": (lambda c: truncate(c / SEGMENTATION), "segmentation.nii.gz is truncated or damaged"),
    "short image": (lambda c: short_inside(c / IMAGING), "imaging.nii.gz is truncated or damaged"),
    "damaged image": (lambda c: flip_bytes(c / IMAGING), "imaging.nii.gz is truncated or damaged"),
    "empty file": (lambda c: (c / IMAGING).write_bytes(b""), "imaging.nii.gz has no readable NIfTI header"),
    "not gzip": (
        lambda c: (c / IMAGING).write_bytes(b"x" * 999),
        "imaging.nii.gz has no readable NIfTI header",
    ),
    "not NIfTI": (
        lambda c: (c / SEGMENTATION).write_bytes(gzip.compress(b"x" * 999)),
        "segmentation.nii.gz has no readable NIfTI header",
    ),
    "label 3": (
        lambda c: write_nifti(c / SEGMENTATION, with_voxel(formula_label(), 3)),
        "segmentation.nii.gz holds the value 3 (first in column 5); expected 0 (background), 1 (kidney)",
    ),
    "label 256": (
        lambda c: write_nifti(c / SEGMENTATION, with_voxel(formula_label().astype(np.uint16), 256)),
        "holds the value 256",
    ),
    "label -1": (
        lambda c: write_nifti(c / SEGMENTATION, with_voxel(formula_label().astype(np.int16), -1)),
        "holds the value -1",
    ),
    "label 1.5": (
        lambda c: write_nifti(c / SEGMENTATION, with_voxel(formula_label().astype(np.float32), 1.5)),
        "holds the value 1.5",
    ),
    "label NaN": (
        lambda c: write_nifti(c / SEGMENTATION, with_voxel(formula_label().astype(np.float64), np.nan)),
        "holds the value nan",
    ),
    "2-D": (lambda c: write_nifti(c / IMAGING, formula_image()[0], (1, 1, 1)), "expected one 3-D volume"),
    "4-D": (
        lambda c: write_nifti(c / IMAGING, formula_image((4, 5, 6, 2)), (1, 1, 1)),
        "imaging.nii.gz has shape (4, 5, 6, 2); expected one 3-D volume",
    ),
    "NaN": (
        lambda c: write_nifti(c / IMAGING, with_voxel(formula_image().astype(np.float32), np.nan)),
        "imaging.nii.gz holds NaN or infinite voxels",
    ),
    "infinite": (
        lambda c: write_nifti(c / IMAGING, with_voxel(formula_image().astype(np.float64), -np.inf)),
        "imaging.nii.gz holds NaN or infinite voxels",
    ),
    "complex": (
        lambda c: write_nifti(c / IMAGING, formula_image().astype(np.complex64)),
        "imaging.nii.gz holds complex64 voxels",
    ),
    "zero spacing": (lambda c: overwrite_spacing(c / IMAGING, (0, 1, 1)), "expected three positive numbers"),
    "negative spacing": (
        lambda c: overwrite_spacing(c / IMAGING, (3, -1, 1)),
        "expected three positive numbers",
    ),
    "NaN spacing": (
        lambda c: overwrite_spacing(c / IMAGING, (3, 1, np.nan)),
        "expected three positive numbers",
    ),
    "too thin": (lambda c: overwrite_spacing(c / IMAGING, (0.1, 1, 1)), "leave none along an axis"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_case_is_named_and_the_others_finish(tmp_path: Path, preprocess, kind: str) -> None:
    spoil, sentence = BAD[kind]
    write_case(tmp_path / "raw", 0)
    spoil(write_case(tmp_path / "raw", 7))
    result = preprocess("--data_dir", tmp_path / "raw", "--results_dir", tmp_path / "out", "--workers", 1)
    assert result.status == 1
    lines = [line for line in result.err.splitlines() if "case_00007: " in line]
    assert len(lines) == 1
    assert sentence in lines[0]
    assert "1 cases failed: case_00007" in result.err
    assert "Traceback" not in result.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "case_00000_x.npy",
        "case_00000_y.npy",
        "manifest.json",
    }


def test_a_repaired_case_joins_the_others(tmp_path: Path, preprocess) -> None:
    write_case(tmp_path / "raw", 0)
    truncate(write_case(tmp_path / "raw", 7) / IMAGING)
    flags = ("--data_dir", tmp_path / "raw", "--results_dir", tmp_path / "out")
    assert preprocess(*flags).status == 1
    write_case(tmp_path / "raw", 7)
    result = preprocess(*flags)
    assert result.status == 0
    assert "1 cases were complete and correct already" in result.out


@pytest.mark.parametrize("prepare", ["missing", "empty", "file", "only 210"])
def test_nothing_to_convert_is_one_sentence(tmp_path: Path, preprocess, prepare: str) -> None:
    raw = tmp_path / "raw"
    if prepare == "file":
        raw.write_text("")
    elif prepare != "missing":
        raw.mkdir()
    if prepare == "only 210":
        write_case(raw, 210)
    result = preprocess("--data_dir", raw, "--results_dir", tmp_path / "out")
    assert result.status == 2
    assert result.err.startswith(f"error: {raw} ") or result.err.startswith(
        f"error: no case_* folder in {raw}"
    )
    assert len(result.err.splitlines()) == 1


def test_an_unusable_results_folder_is_one_sentence(tmp_path: Path, preprocess) -> None:
    write_case(tmp_path / "raw", 0)
    (tmp_path / "file").write_text("")
    result = preprocess("--data_dir", tmp_path / "raw", "--results_dir", tmp_path / "file" / "out")
    assert result.status == 2
    assert "cannot write to" in result.err


@pytest.mark.parametrize(
    "flags",
    [
        ["--results_dir", "out"],
        ["--data_dir", "raw"],
        ["--data_dir", "raw", "--results_dir", "out", "--mode", "other"],
        ["--data_dir", "raw", "--results_dir", "out", "--workers", "0"],
        ["--data_dir", "raw", "--results_dir", "out", "--workers", "two"],
        ["--data_dir", "raw", "--results_dir", "out", "--worker_count", "2"],
    ],
)
def test_wrong_flags_exit_with_2(preprocess, flags: list[str]) -> None:
    result = preprocess(*flags)
    assert result.status == 2
    assert result.err.startswith("preprocess_dataset.py: error: ")
    assert len(result.err.splitlines()) == 1


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """On a real full file system: a tmpfs of 6 MB in a mount namespace of its own; one image takes 8 MB."""
    unshare = shutil.which("unshare")
    probe = [unshare or "false", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("needs a user namespace that may mount a tmpfs")
    write_case(tmp_path / "raw", 4)
    out = tmp_path / "out"
    out.mkdir()
    script = (
        f"mount -t tmpfs -o size=6m none {out} && "
        f"{sys.executable} preprocess_dataset.py --data_dir {tmp_path / 'raw'} --results_dir {out}; "
        f"echo status $?; ls {out}"
    )
    run = subprocess.run(
        [unshare, "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"case_00004: no space left in {out}" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout.endswith("status 1\n")  # nothing is left
