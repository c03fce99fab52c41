"""What is remembered of a data set, and when it is read again all the same."""

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import RunError
from runtime.preflight import survey as survey_module
from runtime.preflight.data import NoStamp, data_findings
from runtime.preflight.renew import renewed_stamp
from runtime.preflight.stamp import Stamp, stamp_path
from runtime.preflight.survey import survey
from tests.unit.runtime.preflight_cases import DataSet, image, make, off

IMAGE, LABEL = "case_00007_x.npy", "case_00007_y.npy"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return make(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def data(pristine: DataSet, tmp_path: Path) -> DataSet:
    """A copy to spoil."""
    return pristine.copy(tmp_path)


class Reads:
    """Counts the files whose md5 is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        read = survey_module.file_md5
        monkeypatch.setattr(
            survey_module, "file_md5", lambda path: self.names.append(path.name) or read(path)
        )


def test_only_what_has_changed_is_read_again(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    first = renewed_stamp(data.config, data.table, rehash=False)
    assert len(reads.names) == 420
    assert renewed_stamp(data.config, data.table, rehash=False) == first
    assert len(reads.names) == 420
    os.utime(data.folder / IMAGE, ns=(1, 1))
    renewed_stamp(data.config, data.table, rehash=False)
    assert reads.names[420:] == [IMAGE]
    renewed_stamp(data.config, data.table, rehash=True)
    assert len(reads.names) == 841


def test_a_byte_under_the_same_size_and_time_is_found_by_rehash(data: DataSet) -> None:
    renewed_stamp(data.config, data.table, rehash=False)
    path = data.folder / LABEL
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for rehash, rules in ((False, []), (True, ["labels"])):
        stamp = renewed_stamp(data.config, data.table, rehash=rehash)
        assert isinstance(stamp, Stamp)
        stamp = replace(stamp, storage=("ext4",), in_memory=())
        assert off(data_findings(stamp, data.table, data.config.loader)) == rules


def test_the_stamp_of_another_folder_is_no_reason_not_to_read(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed_stamp(data.config, data.table, rehash=False)
    other = replace(data.copy(tmp_path / "other"), results=data.results)
    stamp = Stamp.load(stamp_path(other.config))
    assert "stamp" in off(data_findings(stamp, data.table, other.config.loader))
    reads = Reads(monkeypatch)
    renewed_stamp(other.config, other.table, rehash=False)
    assert len(reads.names) == 420


def test_a_stamp_that_cannot_be_written_is_said_before_anything_is_read(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.results.write_text("a file where the folder should be")
    reads = Reads(monkeypatch)
    stamp = renewed_stamp(data.config, data.table, rehash=False)
    assert isinstance(stamp, NoStamp)
    assert "cannot be written to" in stamp.reason
    assert reads.names == []


def test_a_stamp_survives_its_file(data: DataSet, tmp_path: Path) -> None:
    np.save(data.folder / IMAGE, image(7).astype(np.float16))
    (data.folder / os.fsdecode(b"box\xff")).mkdir()
    stamp = survey(data.folder, data.table, {})
    stamp.save(tmp_path / "stamp.json")
    assert Stamp.load(tmp_path / "stamp.json") == stamp


@pytest.fixture(scope="module")
def stamped(pristine: DataSet) -> bytes:
    stamp = renewed_stamp(pristine.config, pristine.table, rehash=False)
    assert isinstance(stamp, Stamp)
    return stamp_path(pristine.config).read_bytes()


@given(st.data())
@settings(max_examples=40)
def test_a_stamp_that_was_cut_is_damaged(
    stamped: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("stamp") / "stamp.json"
    path.write_bytes(stamped[: data.draw(st.integers(0, len(stamped) - 1))])
    with pytest.raises(RunError, match="damaged"):
        Stamp.load(path)


PLAIN = st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3)
NESTED = st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=3), PLAIN | st.lists(PLAIN))
KEYS = ("format_version", "storage", "others", "files", "voxels", "size", "new")


def test_a_stamp_of_other_files_than_cases_is_damaged(stamped: bytes, tmp_path: Path) -> None:
    (tmp_path / "stamp.json").write_bytes(stamped.replace(LABEL.encode(), b"case_seven_y.npy"))
    with pytest.raises(RunError, match="it names other files than cases'"):
        Stamp.load(tmp_path / "stamp.json")


@given(key=st.sampled_from(KEYS), value=PLAIN | NESTED)
@settings(max_examples=60)
def test_a_stamp_with_another_value_is_read_or_damaged(
    stamped: bytes, tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    body = json.loads(stamped)
    part = body["files"][LABEL] if key in ("voxels", "size") else body
    part[key] = value
    path = tmp_path_factory.mktemp("stamp") / "stamp.json"
    path.write_text(json.dumps(body))
    with contextlib.suppress(RunError):  # any other error is one that a user would see as a traceback
        Stamp.load(path)
