"""The four states of verification, on a folder whose right answers come from the published table itself."""

import hashlib
import json
from pathlib import Path

import pytest

from preprocess import verify
from preprocess.manifest import CaseRecord, Manifest
from preprocess.verify import State


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A table of three cases and a folder that fits it."""
    bodies = {f"case_{n:05d}_{kind}.npy": f"{n}{kind}".encode() for n in (0, 1, 43) for kind in "xy"}
    (tmp_path / "out").mkdir()
    for name, body in bodies.items():
        (tmp_path / "out" / name).write_bytes(body)
    result = {name: hashlib.md5(body).hexdigest() for name, body in bodies.items()}
    (tmp_path / "checksums.json").write_text(json.dumps(result))
    monkeypatch.setattr(verify, "CHECKSUMS_FILE", tmp_path / "checksums.json")
    return result


def test_the_shipped_table_covers_both_files_of_210_cases() -> None:
    names = {f"case_{n:05d}_{kind}.npy" for n in range(210) for kind in "xy"}
    table = verify.load_table()
    assert table.keys() == names
    assert all(len(md5) == 32 and int(md5, 16) >= 0 for md5 in table.values())


def test_all_right_is_status_0(tmp_path: Path, table, preprocess) -> None:
    (tmp_path / "out" / "manifest.json").write_text("{}")  # not part of the data set
    result = preprocess("--mode", "verify", "--results_dir", tmp_path / "out")
    assert result.status == 0
    assert result.out.splitlines()[:3] == ["case_00000: ok", "case_00001: ok", "case_00043: ok"]
    assert "6 files ok, 0 files wrong, 0 files missing, 0 files unexpected" in result.out


@pytest.mark.parametrize(
    ("overwritten", "line"),
    [
        ("case_00000_y.npy", "case_00000_y.npy wrong (labels must match exactly"),
        ("case_00000_x.npy", "case_00000_x.npy wrong (float32 may differ"),
        ("case_00043_x.npy", "case_00043_x.npy wrong (known upstream"),
        ("case_00210_x.npy", "case_00210: unexpected"),
        ("notes.txt", "notes.txt: unexpected"),
        ("case_00001_x.npy.7.part", "case_00001_x.npy.7.part unexpected (left by a killed run"),
    ],
)
def test_each_fault_is_named_and_status_1(
    tmp_path: Path, table, preprocess, overwritten: str, line: str
) -> None:
    (tmp_path / "out" / overwritten).write_bytes(b"")
    result = preprocess("--mode", "verify", "--results_dir", tmp_path / "out")
    assert result.status == 1
    assert line in result.out
    assert sum(": ok" in printed for printed in result.out.splitlines()) >= 2


def test_a_missing_file_is_named_and_status_1(tmp_path: Path, table, preprocess) -> None:
    (tmp_path / "out" / "case_00001_x.npy").unlink()
    result = preprocess("--mode", "verify", "--results_dir", tmp_path / "out")
    assert result.status == 1
    assert "case_00001: case_00001_x.npy missing (preprocess again); case_00001_y.npy ok" in result.out


def test_a_file_that_changed_after_it_was_written_is_said_to_have(tmp_path: Path, table) -> None:
    out = tmp_path / "out"
    name = "case_00000"
    record = CaseRecord((1, 1, 1), (1, 1, 1), 0, 1, table[f"{name}_x.npy"], table[f"{name}_y.npy"])
    Manifest("kits19", cases={name: record}).save(out)
    (out / f"{name}_x.npy").write_bytes(b"other")
    findings = {finding.file: finding for finding in verify.compare(out, table, 1)}
    assert findings[f"{name}_x.npy"].state is State.WRONG
    assert findings[f"{name}_x.npy"].hint.startswith("the file changed after it was written")
    assert findings[f"{name}_y.npy"] == verify.Finding(f"{name}_y.npy", State.OK)


def test_phantom_data_is_said_to_be_phantom(tmp_path: Path, table, preprocess) -> None:
    Manifest("phantom", {"seed": 5}).save(tmp_path / "out")
    result = preprocess("--mode", "verify", "--results_dir", tmp_path / "out")
    assert "this data was made by the phantom generator (phantom seed=5), not from KiTS19" in result.out


def test_no_folder_is_status_2(tmp_path: Path, preprocess) -> None:
    result = preprocess("--mode", "verify", "--results_dir", tmp_path / "none")
    assert result.status == 2
    assert (
        result.err
        == f"error: {tmp_path / 'none'} is not a folder; give the results of preprocessing as --results_dir\n"
    )
