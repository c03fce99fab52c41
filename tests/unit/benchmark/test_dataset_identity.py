"""What a data set is called by: counts, sizes and a hash."""

import hashlib
import json
import os
import statistics
from pathlib import Path

import numpy as np
import pytest

from benchmark import dataset_identity
from benchmark.dataset_identity import describe_dataset
from pipelines.errors import DataError
from preprocess.manifest import MANIFEST_NAME, CaseRecord, Manifest
from preprocess.spec import EVALUATION_CASES_FILE

KIB = 1 << 10


def describe(folder: Path) -> dict[str, object]:
    return describe_dataset(folder, EVALUATION_CASES_FILE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Cases 0 (evaluation), 1 and 2, the images of 128, 256 and 384 KiB."""
    for case_id in range(3):
        voxels = np.arange((case_id + 1) * 32 * KIB, dtype=np.float32).reshape(1, -1, 32, 32)
        np.save(tmp_path / f"case_{case_id:05d}_x.npy", voxels)
        np.save(tmp_path / f"case_{case_id:05d}_y.npy", np.zeros(voxels.shape, np.uint8))
    return tmp_path


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def give_manifest(folder: Path, ids: range) -> None:
    records = {
        f"case_{i:05d}": CaseRecord((1, 1, 1), (1.0, 1.0, 1.0), 0.0, 1.0, f"{i:032x}", f"{i + 9:032x}")
        for i in ids
    }
    Manifest("phantom", cases=records).save(folder)


def test_counts_and_sizes(folder: Path) -> None:
    found = json.loads(json.dumps(describe(folder)))
    sizes = [sum((folder / f"case_{i:05d}_{kind}.npy").stat().st_size for kind in "xy") for i in range(3)]
    assert (found["training_cases"], found["evaluation_cases"]) == (2, 1)
    assert (found["bytes"], found["training_bytes"]) == (sum(sizes), sum(sizes[1:]))
    assert found["sample_bytes_mean"] == statistics.fmean(sizes)
    assert found["sample_bytes_stdev"] == pytest.approx(np.std(sizes))
    assert found["image_dtype"] == "float32"


def test_the_rule_of_five_times_the_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe(folder)["at_least_5x_memory"] is False
    training_bytes = describe(folder)["training_bytes"]
    assert isinstance(training_bytes, int)
    for spare, expected in ((0, True), (1, False)):
        pages = {"SC_PHYS_PAGES": training_bytes // 5 + spare, "SC_PAGE_SIZE": 1}
        monkeypatch.setattr(dataset_identity.os, "sysconf", pages.__getitem__)
        found = describe(folder)
        assert found["at_least_5x_memory"] is expected
        assert found["memory_bytes"] == training_bytes // 5 + spare


def test_the_hash_by_the_ends_of_the_files(folder: Path) -> None:
    before = describe(folder)
    assert before["sha256_of"] == "name, size, sha256 of the first and last 64 KiB"
    lines = ""
    for path in sorted(folder.glob("*.npy")):
        content = path.read_bytes()
        ends = content[: 64 * KIB] + content[64 * KIB :][-64 * KIB :]
        lines += f"{path.name} {len(content)} {hashlib.sha256(ends).hexdigest()}\n"
    assert before["sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert describe(folder) == before


@pytest.mark.parametrize("offset", [-1, -64 * KIB, 64 * KIB - 1, 200])
def test_the_ends_tell_a_change(folder: Path, offset: int) -> None:
    before = describe(folder)["sha256"]
    flip(folder / "case_00002_x.npy", offset)
    assert describe(folder)["sha256"] != before
    flip(folder / "case_00002_x.npy", offset)
    assert describe(folder)["sha256"] == before


def test_a_name_or_a_size_is_part_of_the_hash(folder: Path) -> None:
    give_manifest(folder, range(3))
    before = describe(folder)["sha256"]
    with (folder / "case_00001_y.npy").open("ab") as file:
        file.write(b"0")
    assert describe(folder)["sha256"] != before
    for kind in "xy":
        (folder / f"case_00002_{kind}.npy").unlink()
    assert len({before, describe(folder)["sha256"]}) == 2


def test_the_hash_by_the_manifest(folder: Path) -> None:
    without = describe(folder)["sha256"]
    give_manifest(folder, range(3))
    found = describe(folder)
    assert found["sha256_of"] == "name, size, md5 by the manifest"
    lines = "".join(
        f"case_{i:05d}_{kind}.npy {(folder / f'case_{i:05d}_{kind}.npy').stat().st_size} {i + add:032x}\n"
        for i in range(3)
        for kind, add in (("x", 0), ("y", 9))
    )
    assert found["sha256"] == hashlib.sha256(lines.encode()).hexdigest() != without
    give_manifest(folder, range(1))
    assert describe(folder)["sha256_of"] == (
        "name, size, sha256 of the first and last 64 KiB; of 2 of 6 files md5 by the manifest"
    )


def test_other_dtypes_are_named(folder: Path) -> None:
    image = folder / "case_00000_x.npy"
    np.save(image, np.load(image).astype(np.float16))
    assert describe(folder)["image_dtype"] == "float16, float32"


def test_what_cannot_be_told_is_refused(folder: Path) -> None:
    (folder / MANIFEST_NAME).write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json is damaged.*preprocess again, or remove it"):
        describe(folder)
    (folder / MANIFEST_NAME).unlink()
    (folder / "case_00001_x.npy").write_bytes(b"no header")
    with pytest.raises(DataError, match=r"case_00001_x\.npy is not a \.npy file"):
        describe(folder)
    (folder / "case_00001_x.npy").unlink()
    with pytest.raises(DataError, match="has no case_00001_x.npy beside it"):
        describe(folder)
