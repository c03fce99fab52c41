"""The rules on the data set, and spoilings of it that each is to find."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preprocess.manifest import MANIFEST_NAME, Manifest
from preprocess.spec import evaluation_ids
from runtime.mounts import Mount
from runtime.preflight import survey as survey_module
from runtime.preflight.data import NoStamp, data_findings
from runtime.preflight.finding import Finding, State
from runtime.preflight.survey import survey
from tests.unit.runtime.preflight_cases import DataSet, image, make, of_rule, off

RULES = ["stamp", "cases", "labels", "images", "precomputed content", "storage dtype", "origin", "storage"]
IMAGE, LABEL = "case_00007_x.npy", "case_00007_y.npy"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return make(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def data(pristine: DataSet, tmp_path: Path) -> DataSet:
    """A copy to spoil."""
    return pristine.copy(tmp_path)


def judged(data: DataSet) -> list[Finding]:
    """Wherever the tests' temporary folder is."""
    stamp = replace(survey(data.folder, data.table, {}), storage=("ext4",), in_memory=())
    return data_findings(stamp, data.table, data.config.loader)


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


def test_a_split_of_41_evaluation_cases_is_off(data: DataSet, tmp_path: Path) -> None:
    ids = tmp_path / "evaluation_cases.txt"
    ids.write_text("\n".join(f"{case:05d}" for case in sorted(evaluation_ids())[:41]))
    loader = replace(data.config.loader, evaluation_cases=ids)
    findings = data_findings(survey(data.folder, data.table, {}), data.table, loader)
    assert of_rule(findings, "cases").found == "169 and 41"
    assert "cases" in off(findings)


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
