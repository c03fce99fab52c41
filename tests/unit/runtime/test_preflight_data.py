"""The rules on the data set, and how they are judged again without reading it."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.manifest import MANIFEST_NAME, Manifest
from runtime.errors import RunError
from runtime.mounts import Mount
from runtime.preflight import survey as survey_module
from runtime.preflight.data import NoStamp, data_findings
from runtime.preflight.finding import Finding, State
from runtime.preflight.renew import renewed_stamp
from runtime.preflight.stamp import FileStamp, Stamp, stamp_path
from runtime.preflight.survey import survey
from tests.unit.runtime.preflight_cases import DataSet, image, make, of_rule, off

RULES = ["stamp", "cases", "labels", "images", "precomputed content", "storage dtype", "origin", "storage"]
IMAGE, LABEL = "case_00007_x.npy", "case_00007_y.npy"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return make(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def data(pristine: DataSet, tmp_path: Path) -> DataSet:
    """A copy to spoil, which lies on no file system in memory."""
    return replace(
        pristine, folder=shutil.copytree(pristine.folder, tmp_path / "data"), results=tmp_path / "results"
    )


def judged(data: DataSet, known: dict[str, FileStamp] | None = None) -> list[Finding]:
    stamp = survey(data.folder, data.table, known or {})
    return data_findings(replace(stamp, storage=("ext4",), in_memory=()), data.table, data.config.loader)


def copy(folder: Path, source: str, target: str) -> None:
    shutil.copy(folder / source, folder / target)


def rewrite(path: Path, volume: np.ndarray) -> None:
    np.save(path, volume)


def with_manifest(folder: Path, change: Callable[[Manifest], object]) -> None:
    manifest = Manifest.load(folder)
    assert manifest
    change(manifest)
    manifest.save(folder)


def test_a_legal_data_set_is_legal(data: DataSet) -> None:
    findings = judged(data)
    assert [finding.rule for finding in findings] == RULES
    assert {finding.state for finding in findings} == {State.OK}
    assert of_rule(findings, "cases").found == "168 and 42"


def test_without_a_manifest_the_md5s_decide(data: DataSet) -> None:
    (data.folder / MANIFEST_NAME).unlink()
    assert off(judged(data)) == []


SPOILINGS: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "41 evaluation cases": (
        lambda folder: [(folder / f"case_00003_{kind}.npy").unlink() for kind in "xy"],
        ["cases"], "168 and 41, without case_00003_x.npy, case_00003_y.npy",
    ),
    "a label is missing": (
        lambda folder: (folder / LABEL).unlink(), ["cases"], f"167 and 42, without {LABEL}",
    ),
    "a case too many": (
        lambda folder: [copy(folder, f"case_00007_{kind}.npy", f"case_00210_{kind}.npy") for kind in "xy"],
        ["cases", "labels"], "169 and 42, beside them case_00210_x.npy",
    ),
    "a label of another case": (
        lambda folder: copy(folder, "case_00008_y.npy", LABEL), ["labels"], f"{LABEL} differs",
    ),
    "a label that is a folder": (
        lambda folder: [(folder / LABEL).unlink(), (folder / LABEL).mkdir()],
        ["labels"], f"{LABEL} cannot be read (no regular file)",
    ),
    "a label that leads nowhere": (
        lambda folder: [(folder / LABEL).unlink(), (folder / LABEL).symlink_to("nowhere")],
        ["labels"], f"{LABEL} cannot be read (No such file or directory)",
    ),
    "a fifo": (
        lambda folder: [(folder / IMAGE).unlink(), os.mkfifo(folder / IMAGE)],
        ["images"], f"{IMAGE} cannot be read (no regular file)",
    ),
    "an image with a NaN": (
        lambda folder: rewrite(folder / IMAGE, np.where(image(7) == image(7).max(), np.nan, image(7))),
        ["images"], f"{IMAGE} holds values that are not finite numbers",
    ),
    "an image in other numbers": (
        lambda folder: rewrite(folder / IMAGE, image(7).astype(np.float16)),
        ["images", "storage dtype"], "float16, float32",
    ),
    "an image of another patient": (
        lambda folder: copy(folder, "case_00008_x.npy", IMAGE), ["images"], "was written with",
    ),
    "an image that was cut": (
        lambda folder: (folder / IMAGE).write_bytes((folder / IMAGE).read_bytes()[:-1]),
        ["images"], "bytes, expected",
    ),
    "boxes": (
        lambda folder: (folder / "boxes.npz").write_bytes(b""), ["precomputed content"], "boxes.npz",
    ),
    "a name that is no text": (
        lambda folder: (folder / os.fsdecode(b"box\xff")).mkdir(), ["precomputed content"], "box\\udcff",
    ),
    "a phantom": (
        lambda folder: with_manifest(folder, lambda manifest: setattr(manifest, "origin", "phantom")),
        ["origin"], "phantom",
    ),
    "another specification": (
        lambda folder: with_manifest(folder, lambda manifest: setattr(manifest, "spec", "0" * 16)),
        ["origin"], "made to another specification",
    ),
    "float16 by the manifest": (
        lambda folder: with_manifest(folder, lambda manifest: setattr(manifest, "storage_dtype", "float16")),
        ["storage dtype"], "float16",
    ),
    "a damaged manifest": (
        lambda folder: (folder / MANIFEST_NAME).write_text("{"), ["origin"], "is damaged or of another",
    ),
}  # fmt: skip


@pytest.mark.parametrize("spoiling", SPOILINGS)
def test_a_spoiled_data_set_is_off_by_name(data: DataSet, spoiling: str) -> None:
    spoil, rules, said = SPOILINGS[spoiling]
    spoil(data.folder)
    findings = judged(data)
    assert off(findings) == rules
    assert any(said in finding.found for finding in findings)


def test_last_bits_of_an_image_are_listed_and_legal(data: DataSet) -> None:
    with_manifest(data.folder, lambda manifest: manifest.cases.pop("case_00043"))
    for name, seed in ((IMAGE, 7), ("case_00043_x.npy", 43)):
        volume = image(seed)
        rewrite(data.folder / name, np.where(volume > -1, np.nextafter(volume, np.float32(9)), volume))
    found = of_rule(judged(data), "images")
    assert (found.state, found.found) == (State.WARNING, "208 as published, 2 by shape, mean, deviation")
    assert found.remedy.endswith(f"of {IMAGE}, case_00043_x.npy")


@pytest.mark.parametrize(
    ("mount", "legal"),
    [
        (Mount("0:5", Path("/"), "tmpfs", "tmpfs", ()), False),
        (Mount("8:1", Path("/"), "xfs", "/dev/sda1", ()), True),
        (None, False),
    ],
)
def test_storage_is_that_of_the_files(
    data: DataSet, mount: Mount | None, legal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "mount_of", lambda path, mounts: mount)
    findings = data_findings(survey(data.folder, data.table, {}), data.table, data.config.loader)
    assert off(findings) == ([] if legal else ["storage"])
    assert of_rule(findings, "storage").found == (mount.kind if mount else "the kernel does not tell")


def test_a_link_to_memory_is_followed(data: DataSet) -> None:
    in_memory = Path("/dev/shm") / f"voxelrate-{os.getpid()}.npy"
    try:
        shutil.move(data.folder / IMAGE, in_memory)
        (data.folder / IMAGE).symlink_to(in_memory)
        findings = data_findings(survey(data.folder, data.table, {}), data.table, data.config.loader)
    finally:
        in_memory.unlink()
    assert off(findings) == ["storage"]
    assert "tmpfs" in of_rule(findings, "storage").found


def test_what_nobody_knows_is_off_in_every_rule(data: DataSet) -> None:
    findings = data_findings(NoStamp("no stamp", "make one"), data.table, data.config.loader)
    assert off(findings) == RULES
    assert {(finding.found, finding.remedy) for finding in findings} == {("no stamp", "make one")}


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
    other = replace(data, folder=shutil.copytree(data.folder, tmp_path / "other"))
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
    rewrite(data.folder / IMAGE, image(7).astype(np.float16))
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
