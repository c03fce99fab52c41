"""The command line on good cases: the same files as torch and numpy give, found anywhere, written once."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from raw_cases import SHAPE, SPACING, formula_image, formula_label, write_case, write_nifti
from torch.nn.functional import interpolate

from preprocess import machine, pool
from preprocess import manifest as manifest_module
from preprocess.geometry import padding, resampled_shape
from preprocess.manifest import Manifest

ROOT = Path(__file__).resolve().parents[3]


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def expected_pair(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The published method, written with whole arrays."""
    shape = resampled_shape(SHAPE, tuple(float(np.float32(mm)) for mm in SPACING))
    x = torch.from_numpy(image.astype(np.float64).astype(np.float32))[None, None]
    y = torch.from_numpy(label.astype(np.uint8))[None, None]
    x = interpolate(x, size=shape, mode="trilinear", align_corners=True)[0].numpy()
    y = interpolate(y, size=shape, mode="nearest")[0].numpy()
    widths = ((0, 0), *padding(shape))
    normal = (np.clip(x, -79.0, 304.0) - 101.0) / 76.9
    return np.pad(normal, widths, mode="edge"), np.pad(y, widths, mode="edge")


def test_writes_what_the_published_method_gives(tmp_path: Path, preprocess) -> None:
    write_case(tmp_path / "raw", 3)
    result = preprocess("--data_dir", tmp_path / "raw", "--results_dir", tmp_path / "out", "--workers", 1)
    assert result.status == 0, result.err
    image, label = expected_pair(formula_image() + np.int16(3), formula_label())
    for suffix, expected in (("x", image), ("y", label)):
        np.save(tmp_path / "expected.npy", expected)
        written = (tmp_path / "out" / f"case_00003_{suffix}.npy").read_bytes()
        assert written == (tmp_path / "expected.npy").read_bytes()
    line = f"case_00003: shape 1x128x128x128 mean {image.mean():.2f} std {image.std():.2f}\n"
    assert line in result.out
    assert f"median of 1 cases: mean {image.mean():.2f} std {image.std():.2f} d 128 h 128 w 128" in result.out
    assert "1/1" in result.err  # the progress bar


@pytest.mark.parametrize("inside", [".", "data", "kits19/data"])
def test_finds_cases_and_skips_those_from_210_up(tmp_path: Path, preprocess, inside: str) -> None:
    for case_id in (0, 209, 210, 299):
        write_case(tmp_path / "raw" / inside, case_id)
    (tmp_path / "raw" / inside / "LICENSE").write_text("not a case")
    result = preprocess("--data_dir", tmp_path / "raw", "--results_dir", tmp_path / "out", "--workers", 2)
    assert result.status == 0, result.err
    names = {f"case_{n}_{kind}.npy" for n in ("00000", "00209") for kind in "xy"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"manifest.json"}
    assert "case_00210: skipped" in result.out
    assert "case_00299: skipped" in result.out


def test_one_and_two_workers_write_the_same(tmp_path: Path, preprocess) -> None:
    for case_id in range(3):
        write_case(tmp_path / "raw", case_id)
    for workers in (1, 2):
        preprocess(
            "--data_dir", tmp_path / "raw", "--results_dir", tmp_path / f"{workers}", "--workers", workers
        )
    one, two = files(tmp_path / "1"), files(tmp_path / "2")
    assert {name: body for name, (body, _) in one.items()} == {name: body for name, (body, _) in two.items()}
    assert len(one) == 7


@pytest.fixture
def done(tmp_path: Path, preprocess) -> Path:
    """Two converted cases; ``raw`` lies beside ``out``."""
    for case_id in (1, 2):
        write_case(tmp_path / "raw", case_id)
    assert preprocess("--data_dir", tmp_path / "raw", "--results_dir", tmp_path / "out").status == 0
    return tmp_path


def run_again(done: Path, preprocess):
    return preprocess("--data_dir", done / "raw", "--results_dir", done / "out")


def test_a_second_run_writes_nothing(done: Path, preprocess) -> None:
    before = files(done / "out")
    result = run_again(done, preprocess)
    assert result.status == 0
    assert files(done / "out") == before
    assert "2 cases were complete and correct already" in result.out


def test_a_damaged_file_is_made_again(done: Path, preprocess) -> None:
    good = files(done / "out")
    path = done / "out" / "case_00001_x.npy"
    body = bytearray(path.read_bytes())
    body[5000] ^= 1
    path.write_bytes(body)
    result = run_again(done, preprocess)
    assert path.read_bytes() == good[path.name][0]
    assert "1 cases were complete and correct already" in result.out
    assert files(done / "out")["case_00002_x.npy"] == good["case_00002_x.npy"]


def test_a_missing_label_is_made_again(done: Path, preprocess) -> None:
    good = files(done / "out")
    (done / "out" / "case_00002_y.npy").unlink()
    run_again(done, preprocess)
    assert files(done / "out")["case_00002_y.npy"][0] == good["case_00002_y.npy"][0]


def test_a_changed_source_is_converted_again(done: Path, preprocess) -> None:
    write_nifti(done / "raw" / "case_00001" / "imaging.nii.gz", formula_image() // 2)
    run_again(done, preprocess)
    expected, _ = expected_pair(formula_image() // 2, formula_label())
    assert np.array_equal(np.load(done / "out" / "case_00001_x.npy"), expected)


def test_another_specification_converts_everything_again(
    done: Path, preprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(done / "out")
    monkeypatch.setattr(manifest_module, "FORMAT_VERSION", 1000)
    result = run_again(done, preprocess)
    assert "another specification" in result.out
    assert all(files(done / "out")[name][1] > mtime for name, (_, mtime) in before.items())


def test_a_damaged_manifest_is_said_and_replaced(done: Path, preprocess) -> None:
    (done / "out" / "manifest.json").write_text('{"cases": ')
    result = run_again(done, preprocess)
    assert result.status == 0
    assert "is damaged or of another version" in result.out
    assert set(Manifest.load(done / "out").cases) == {"case_00001", "case_00002"}


def test_phantom_cases_do_not_join_real_ones(done: Path, preprocess) -> None:
    (done / "raw" / "phantom.json").write_text(json.dumps({"seed": 0}))
    before = files(done / "out")
    result = run_again(done, preprocess)
    assert result.status == 2
    assert "holds cases from kits19, not from phantom seed=0; give another folder" in result.err
    assert files(done / "out") == before


def test_leftover_temporaries_are_removed(done: Path, preprocess) -> None:
    leftover = done / "out" / "case_00001_x.npy.123.part"
    leftover.write_bytes(b"half")
    run_again(done, preprocess)
    assert not leftover.exists()


def test_two_runs_do_not_share_a_folder(done: Path, preprocess) -> None:
    holder = os.open(done / "out", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        result = run_again(done, preprocess)
    finally:
        os.close(holder)
    assert result.status == 2
    assert "another run is writing to" in result.err


def test_the_default_number_of_workers_is_bounded_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "usable_cpus", lambda: 8)
    monkeypatch.setattr(pool, "available_memory", lambda: 3 << 30)
    assert pool.default_workers(1 << 30) == 3
    assert pool.default_workers(1 << 20) == 8
    assert pool.default_workers(1 << 40) == 1


def test_the_chosen_number_of_workers_is_printed(done: Path, preprocess) -> None:
    cpus = machine.usable_cpus()
    assert f"workers ({cpus} usable CPUs; " in run_again(done, preprocess).out


def test_the_script_runs_from_a_shell(tmp_path: Path) -> None:
    write_case(tmp_path / "raw", 0)
    command = [sys.executable, ROOT / "preprocess_dataset.py", "--data_dir", tmp_path / "raw"]
    run = subprocess.run(
        [*command, "--results_dir", tmp_path / "out"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "case_00000_x.npy").is_file()
