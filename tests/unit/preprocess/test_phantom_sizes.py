"""Data sets of a given size, with samples of MLPerf Storage's sizes: what is planned and what is written."""

import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipelines.cases import find_cases, split
from pipelines.foreground import foreground_boxes
from preprocess import phantom, phantom_sizes
from preprocess.files import file_md5
from preprocess.manifest import Manifest
from preprocess.phantom_sizes import SAMPLE_BYTES, draw_storage_shape, pair_bytes, storage_shapes
from preprocess.spec import (
    CLIP_MAX_HU,
    CLIP_MIN_HU,
    MEAN_HU,
    MIN_SHAPE,
    STDDEV_HU,
    StorageDtype,
    evaluation_ids,
)

GB = 1e9
SMALL_GB = 0.035
"""Three cases, where ``small_samples`` makes them about as small as they can be."""


class Usage(NamedTuple):
    """What ``shutil.disk_usage`` returns."""

    total: int
    used: int
    free: int


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_sizes, "SAMPLE_BYTES", 11_500_000)
    monkeypatch.setattr(phantom_sizes, "SAMPLE_BYTES_STDDEV", 500_000)


def make(folder: Path, *flags: str) -> int:
    return phantom.main(["--preprocessed", "--out", str(folder), "--total_gb", str(SMALL_GB), *flags])


def changed_at(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("case_*")}


def test_sizes_have_the_distribution_of_mlperf_storage() -> None:
    shapes = storage_shapes(640 * GB, 0, "float32")
    sizes = np.array([pair_bytes(shape, "float32") for shape in shapes.values()])
    assert sizes.mean() == pytest.approx(146_600_628, rel=0.02)
    assert sizes.std() == pytest.approx(68_341_808, rel=0.03)
    assert all(n >= least for shape in shapes.values() for n, least in zip(shape, MIN_SHAPE, strict=True))
    assert sizes.min() == 128**3 * 5
    assert all(max(shape) <= 1.02 * min(shape) for shape in shapes.values())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("gigabytes", [0.6, 1, 2.5, 7.3, 30.8, 64])
def test_the_total_is_within_half_a_sample(gigabytes: float, dtype: StorageDtype) -> None:
    half = SAMPLE_BYTES / 2 * {"float32": 1, "float16": 3 / 5}[dtype]
    for seed in range(5):
        shapes = storage_shapes(gigabytes * GB, seed, dtype)
        assert abs(sum(pair_bytes(shape, dtype) for shape in shapes.values()) - gigabytes * GB) <= half


def test_a_shape_depends_on_seed_and_id_alone_but_for_the_last() -> None:
    few, many = storage_shapes(2 * GB, 3, "float32"), storage_shapes(40 * GB, 3, "float32")
    assert few.keys() < many.keys()
    assert sum(few[case_id] != draw_storage_shape(3, case_id) for case_id in few) <= 1
    assert sum(many[case_id] != draw_storage_shape(3, case_id) for case_id in many) <= 1
    assert few != storage_shapes(2 * GB, 4, "float32")
    assert draw_storage_shape(3, 2) != draw_storage_shape(3, 3)


def test_cases_beyond_the_split_are_for_training() -> None:
    ids = list(storage_shapes(64 * GB, 0, "float32"))
    assert ids == list(range(len(ids)))
    assert len(ids) > 400
    assert evaluation_ids() < set(ids)
    few = set(storage_shapes(3 * GB, 0, "float32"))
    assert abs(len(few & evaluation_ids()) - len(few) / 5) <= 0.6


@pytest.mark.usefixtures("small_samples")
def test_written_cases_are_whole_and_hard_to_compress(tmp_path: Path) -> None:
    assert make(tmp_path) == 0
    training, evaluation = split(find_cases(tmp_path), evaluation_ids())
    assert (len(training), len(evaluation)) == (2, 1)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.npy")) == pytest.approx(
        SMALL_GB * GB, abs=6e6
    )
    manifest = Manifest.load(tmp_path)
    assert manifest is not None
    assert manifest.origin_detail["painted"] == f"{SMALL_GB} GB"
    low, high = ((hu - MEAN_HU) / STDDEV_HU for hu in (CLIP_MIN_HU, CLIP_MAX_HU))
    for case in (*training, *evaluation):
        image, label, record = np.load(case.image), np.load(case.label), manifest.cases[case.name]
        assert image.shape == label.shape == (1, *record.shape)
        assert (image.dtype, label.dtype) == (np.float32, np.uint8)
        assert np.float32(low) <= image.min() < image.max() <= np.float32(high)
        assert [len(boxes) > 0 for boxes in foreground_boxes(label[0])] == [True, True]
        assert image[label == 2].mean() > image[label == 1].mean() > image[label == 0].mean()
        for plane in (0, record.shape[0] // 2):
            assert len(zlib.compress(image[0, plane].tobytes())) > 0.85 * image[0, plane].nbytes
        assert record.mean == pytest.approx(image.mean(dtype=np.float64), abs=1e-6)
        assert record.std == pytest.approx(image.std(dtype=np.float64), abs=1e-6)
        assert (record.image_md5, record.label_md5) == (file_md5(case.image), file_md5(case.label))


@pytest.mark.usefixtures("small_samples")
def test_what_is_there_is_kept_and_what_is_damaged_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path) == 0
    before = changed_at(tmp_path)
    damaged, removed = tmp_path / "case_00000_x.npy", tmp_path / "case_00001_y.npy"
    good = damaged.read_bytes()
    with damaged.open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"damage")
    removed.unlink()
    capsys.readouterr()
    assert make(tmp_path) == 0
    assert capsys.readouterr().out.count("kept") == 1
    assert damaged.read_bytes() == good
    again = changed_at(tmp_path)
    assert {name for name in before if before[name] == again[name]} == {
        "case_00002_x.npy",
        "case_00002_y.npy",
    }
    assert phantom.main(["--preprocessed", "--out", str(tmp_path), "--total_gb", "1"]) == 2
    assert "painted=0.035 GB" in capsys.readouterr().err


@pytest.mark.usefixtures("small_samples")
def test_an_interrupted_run_keeps_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(function: Any, tasks: Sequence[Any], workers: int) -> Iterator[tuple[Any, Future[Any]]]:
        done: Future[Any] = Future()
        done.set_result(function(tasks[0]))
        yield tasks[0], done
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(phantom.pool, "run", interrupted)
        assert make(tmp_path) == 130
    assert "run again" in capsys.readouterr().err
    made = changed_at(tmp_path)
    assert len(made) == 2
    assert make(tmp_path) == 0
    assert made.items() < changed_at(tmp_path).items()
    assert capsys.readouterr().out.count("kept") == 1


@pytest.mark.usefixtures("small_samples")
def test_what_lacks_room_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "data"
    needed = sum(pair_bytes(s, "float32") for s in storage_shapes(SMALL_GB * GB, 0, "float32").values())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, needed - 1))
    assert make(out) == 2
    assert not out.parent.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, needed))
    assert make(out) == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 0))
    assert make(out) == 0  # what is there needs no room
    os.unlink(out / "case_00001_x.npy")
    assert make(out) == 2


def test_the_sentence_about_a_full_disk_has_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 300_000_000))
    out = tmp_path / "new"
    assert phantom.main(["--preprocessed", "--out", str(out), "--total_gb", "640"]) == 2
    assert f"{out} needs 640.0 GB more, but 0.3 GB are free there" in capsys.readouterr().err
    assert not out.exists()
