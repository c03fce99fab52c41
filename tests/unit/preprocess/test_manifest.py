import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess import manifest, spec
from preprocess.manifest import CaseRecord, Manifest, ManifestError, SourceFile

ROOT = Path(__file__).resolve().parents[3]

sizes = st.integers(0, 2**63 - 1)
reals = st.floats(allow_nan=False, allow_infinity=False)
digests = st.text("0123456789abcdef", min_size=32, max_size=32)
sources = st.none() | st.builds(SourceFile, sizes, sizes)
records = st.builds(
    CaseRecord,
    st.tuples(sizes, sizes, sizes),
    st.tuples(reals, reals, reals),
    reals,
    reals,
    digests,
    digests,
    sources,
    sources,
)
names = st.integers(0, 209).map("case_{:05d}".format)
manifests = st.builds(
    Manifest,
    st.sampled_from(["kits19", "phantom"]),
    st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=3),
    digests,
    st.sampled_from(["float32", "float16"]),
    st.dictionaries(names, records, max_size=4),
)


@given(manifests)
def test_what_is_saved_is_what_is_loaded(written: Manifest) -> None:
    with TemporaryDirectory() as folder:
        written.save(Path(folder))
        assert [path.name for path in Path(folder).iterdir()] == ["manifest.json"]
        assert Manifest.load(Path(folder)) == written


def test_no_manifest_is_none(tmp_path: Path) -> None:
    assert Manifest.load(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"origin": "other", "origin_detail": {}, "spec": "", "cases": {}}',
        '{"origin": "kits19"}',
        '{"origin": "kits19", "origin_detail": {}, "spec": "", "storage_dtype": "bfloat16", "cases": {}}',
        '{"origin": "kits19", "origin_detail": {}, "spec": "", "storage_dtype": ["float16"], "cases": {}}',
        '{"origin": "kits19", "origin_detail": {}, "spec": "", "storage_dtype": null, "cases": {}}',
    ],
)
def test_a_damaged_manifest_is_an_error_of_its_own(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match="is damaged or of another version"):
        Manifest.load(tmp_path)


def test_a_manifest_from_before_storage_dtypes_is_of_float32(tmp_path: Path) -> None:
    Manifest("kits19").save(tmp_path)
    path = tmp_path / "manifest.json"
    body = json.loads(path.read_text())
    assert body.pop("storage_dtype") == "float32"
    path.write_text(json.dumps(body))
    assert Manifest.load(tmp_path) == Manifest("kits19")


def test_an_incomplete_record_is_an_error(tmp_path: Path) -> None:
    record = CaseRecord((1, 2, 3), (1.0, 1.0, 1.0), 0.0, 1.0, "a" * 32, "b" * 32)
    Manifest("kits19", cases={"case_00000": record}).save(tmp_path)
    body = json.loads((tmp_path / "manifest.json").read_text())
    del body["cases"]["case_00000"]["label_md5"]
    (tmp_path / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(ManifestError, match="label_md5"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TARGET_SPACING_MM", (1.6, 1.2, 1.3)),
        ("CLIP_MIN_HU", -80.0),
        ("CLIP_MAX_HU", 305.0),
        ("MEAN_HU", 100.0),
        ("STDDEV_HU", 77.0),
        ("MIN_SHAPE", (128, 128, 129)),
    ],
)
def test_every_constant_changes_the_fingerprint(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifest.spec_fingerprint()
    assert before == manifest.spec_fingerprint()
    monkeypatch.setattr(spec, name, value)
    assert manifest.spec_fingerprint() != before


def test_the_fingerprint_of_existing_folders_stays() -> None:
    assert manifest.spec_fingerprint() == "92101c7d3c040fde"


def test_light_modules_import_neither_torch_nor_nibabel() -> None:
    program = (
        "import sys; import preprocess.manifest, preprocess.phantom, preprocess.convert; "
        "print(sorted({'torch', 'nibabel'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
