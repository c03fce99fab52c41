"""Images stored as float16: the float32 values rounded, never mixed with others, never called MLPerf's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from raw_cases import write_case

from preprocess import cli, phantom, verify
from preprocess.files import file_md5
from preprocess.manifest import Manifest
from preprocess.spec import CLIP_MAX_HU, CLIP_MIN_HU, MEAN_HU, STDDEV_HU

NAMES = ("case_00001", "case_00043")
NOTE = "note: images are stored as float16: half the size, but not the float32 files that MLPerf prescribes\n"
FLOAT16 = ("--storage_dtype", "float16")
PHANTOM = ("--preprocessed", "--shape", "16", "24", "20", "--cases", "3", "--workers", "1")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases in ``raw``, converted into ``float32`` (by default) and ``float16``."""
    folder = tmp_path_factory.mktemp("storage")
    for name in NAMES:
        write_case(folder / "raw", int(name[-5:]))
    for storage, flags in (("float32", ()), ("float16", FLOAT16)):
        paths = ("--data_dir", folder / "raw", "--results_dir", folder / storage)
        assert cli.main([str(flag) for flag in (*paths, *flags)]) == 0
    return folder


@pytest.fixture
def mine(converted: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(converted, tmp_path / "mine"))


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def assert_rounded(wide: Path, narrow: Path, tmp_path: Path) -> None:
    """``narrow`` holds what ``wide`` does, images rounded to float16."""
    before, after = Manifest.load(wide), Manifest.load(narrow)
    assert (before.storage_dtype, after.storage_dtype) == ("float32", "float16")
    assert json.loads((narrow / "manifest.json").read_text())["storage_dtype"] == "float16"
    assert (before.origin, before.origin_detail, before.spec) == (
        after.origin,
        after.origin_detail,
        after.spec,
    )
    assert before.cases.keys() == after.cases.keys()
    assert {path.name for path in wide.iterdir()} == {path.name for path in narrow.iterdir()}
    for name, record in after.cases.items():
        image = np.load(wide / f"{name}_x.npy")
        assert image.dtype == np.dtype("<f4")
        rounded = image.astype(np.float16)
        np.save(tmp_path / "expected.npy", rounded)
        assert (narrow / f"{name}_x.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
        assert np.load(narrow / f"{name}_x.npy", mmap_mode="r").dtype == np.dtype("<f2")
        assert np.abs(rounded.astype(np.float64) - image).max() <= 2**-10
        assert (narrow / f"{name}_y.npy").read_bytes() == (wide / f"{name}_y.npy").read_bytes()
        assert record.shape == before.cases[name].shape == image.shape[1:]
        assert record.image_md5 == file_md5(narrow / f"{name}_x.npy")
        assert record.mean == pytest.approx(rounded.mean(dtype=np.float64), abs=1e-9)
        assert record.std == pytest.approx(rounded.std(dtype=np.float64), abs=1e-9)


def test_images_are_the_float32_ones_rounded(converted: Path, tmp_path: Path) -> None:
    assert_rounded(converted / "float32", converted / "float16", tmp_path)


def test_the_ends_of_the_window_are_finite_in_float16() -> None:
    ends = np.array([CLIP_MIN_HU - MEAN_HU, CLIP_MAX_HU - MEAN_HU]) / STDDEV_HU
    np.testing.assert_allclose(ends.astype(np.float16), [-2.341, 2.640], rtol=0, atol=2**-10 + 5e-4)


def test_a_float16_conversion_says_that_it_is_not_mlperfs(mine: Path, preprocess) -> None:
    paths = ("--data_dir", mine / "raw", "--results_dir")
    assert preprocess(*paths, mine / "float16", *FLOAT16).out.count(NOTE) == 1
    assert "note:" not in preprocess(*paths, mine / "float32").out


def test_a_second_run_writes_nothing(mine: Path, preprocess) -> None:
    before = files(mine / "float16")
    result = preprocess("--data_dir", mine / "raw", "--results_dir", mine / "float16", *FLOAT16)
    assert result.status == 0
    assert "2 cases were complete and correct already" in result.out
    assert files(mine / "float16") == before


def test_a_folder_from_before_storage_dtypes_is_kept(mine: Path, preprocess) -> None:
    path = mine / "float32" / "manifest.json"
    body = json.loads(path.read_text())
    del body["storage_dtype"]
    path.write_text(json.dumps(body))
    before = files(mine / "float32")
    result = preprocess("--data_dir", mine / "raw", "--results_dir", mine / "float32")
    assert result.status == 0
    assert files(mine / "float32") == before


@pytest.mark.parametrize("manifest", ["whole", "missing", "damaged", "unknown"])
@pytest.mark.parametrize(("held", "asked"), [("float32", "float16"), ("float16", "float32")])
def test_storage_dtypes_do_not_mix(mine: Path, preprocess, held: str, asked: str, manifest: str) -> None:
    path = mine / held / "manifest.json"
    if manifest == "missing":
        path.unlink()
    elif manifest == "damaged":
        path.write_text("{")
    elif manifest == "unknown":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"storage_dtype": "bfloat16"}))
    before = files(mine / held)
    result = preprocess(
        "--data_dir", mine / "raw", "--results_dir", mine / held, "--storage_dtype", asked, "--workers", 1
    )
    assert result.status == 2
    assert result.err == (
        f"error: {mine / held} holds images stored as {held}, but {asked} was asked for; "
        f"give another folder, empty this one, or add to it with --storage_dtype {held}\n"
    )
    assert result.out == ""
    assert files(mine / held) == before


def test_an_unknown_storage_dtype_is_a_damaged_manifest(mine: Path, preprocess) -> None:
    path = mine / "float16" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"storage_dtype": "bfloat16"}))
    result = preprocess("--data_dir", mine / "raw", "--results_dir", mine / "float16", *FLOAT16)
    assert result.status == 0
    assert "is damaged or of another version (unknown storage dtype 'bfloat16')" in result.out
    assert Manifest.load(mine / "float16").storage_dtype == "float16"


@pytest.fixture
def table(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the float32 folder were what is published."""
    md5s = {path.name: file_md5(path) for path in (converted / "float32").glob("*.npy")}
    (tmp_path / "checksums.json").write_text(json.dumps(md5s))
    monkeypatch.setattr(verify, "CHECKSUMS_FILE", tmp_path / "checksums.json")


CLOSING = (
    "note: images were stored as float16 on purpose: "
    "they cannot match the published table, which is of float32 files"
)


@pytest.mark.usefixtures("table")
def test_verify_says_why_float16_images_do_not_match(mine: Path, preprocess) -> None:
    result = preprocess("--mode", "verify", "--results_dir", mine / "float16")
    assert result.status == 1
    hint = "stored as float16, unchanged since it was written; the table is of float32 files"
    assert result.out.splitlines() == [
        *(f"{name}: {name}_x.npy wrong ({hint}); {name}_y.npy ok" for name in NAMES),
        "2 files ok, 2 files wrong, 0 files missing, 0 files unexpected",
        f"{CLOSING}; labels still must",
    ]
    assert preprocess("--mode", "verify", "--results_dir", mine / "float32").status == 0


@pytest.mark.usefixtures("table")
def test_verify_names_what_is_really_wrong_with_a_float16_folder(mine: Path, preprocess) -> None:
    image, label = mine / "float16" / "case_00001_x.npy", mine / "float16" / "case_00043_y.npy"
    for path in (image, label):
        body = bytearray(path.read_bytes())
        body[5000] ^= 1
        path.write_bytes(body)
    out = preprocess("--mode", "verify", "--results_dir", mine / "float16").out
    assert out.count("wrong (the file changed after it was written; delete it and preprocess again)") == 2
    assert out.count("wrong (stored as float16, unchanged") == 1


@pytest.mark.usefixtures("table")
def test_verify_knows_a_float16_image_without_a_manifest(mine: Path, preprocess) -> None:
    (mine / "float16" / "manifest.json").unlink()
    result = preprocess("--mode", "verify", "--results_dir", mine / "float16")
    assert result.status == 1
    assert result.out.count("_x.npy wrong (stored as float16; the table is of float32 files)") == 2
    assert "download" not in result.out


def test_a_phantom_of_float16_is_the_float32_one_rounded(
    tmp_path: Path, preprocess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert phantom.main(["--out", str(tmp_path / "wide"), *PHANTOM]) == 0
    assert "note:" not in capsys.readouterr().out
    assert phantom.main(["--out", str(tmp_path / "narrow"), *PHANTOM, *FLOAT16]) == 0
    assert capsys.readouterr().out.count(NOTE) == 1
    assert_rounded(tmp_path / "wide", tmp_path / "narrow", tmp_path)
    verified = preprocess("--mode", "verify", "--results_dir", tmp_path / "narrow")
    assert "made by the phantom generator" in verified.out.splitlines()[-2]
    assert verified.out.splitlines()[-1] == CLOSING  # a phantom's labels match nothing either


@pytest.mark.parametrize("manifest", ["whole", "missing"])
@pytest.mark.parametrize(("held", "asked"), [("float32", "float16"), ("float16", "float32")])
def test_phantoms_of_two_storage_dtypes_do_not_mix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], held: str, asked: str, manifest: str
) -> None:
    out = tmp_path / "out"
    assert phantom.main(["--out", str(out), *PHANTOM, "--storage_dtype", held]) == 0
    if manifest == "missing":
        (out / "manifest.json").unlink()
    before = files(out)
    assert phantom.main(["--out", str(out), *PHANTOM, "--storage_dtype", asked]) == 2
    assert f"error: {out} holds images stored as {held}, but {asked} was asked for" in capsys.readouterr().err
    assert files(out) == before


def test_raw_phantoms_have_no_storage_dtype(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        phantom.main(["--out", str(tmp_path / "out"), *FLOAT16])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "python -m preprocess.phantom: error: --storage_dtype goes with --preprocessed (see --help)"
    ]
    assert not (tmp_path / "out").exists()
