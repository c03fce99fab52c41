"""Files that go bad, or are mended, in mid-run, on every way from the files to a batch."""

import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.base import Batch, Position
from pipelines.config import LoaderConfig
from pipelines.data_loader import build, fingerprint
from pipelines.errors import DataError
from pipelines.volume_reader import MappedVolume
from tests.unit.pipelines.data_faults.faults import (
    BAD,
    WAYS,
    cut,
    image_of,
    label_of,
    replaced,
    run,
    spoil_image,
)
from tests.unit.pipelines.loaders import CPU, ONE, assert_equal, naive


@pytest.mark.parametrize("policy", ["stop", "skip"])
@pytest.mark.parametrize("file", ["image", "label"])
def test_a_file_that_is_truncated_in_mid_run(
    config: LoaderConfig, way: dict[str, object], policy: str, file: str
) -> None:
    config = replace(config, on_bad_case=policy, **way)  # type: ignore[arg-type]
    assert replaced(config, 6) == 0, "the fault comes before anybody has read the case"
    truth = naive(config, 20, bad={BAD})
    loader = build(config, ONE, CPU)
    stream = iter(loader)
    path = image_of(config.data_dir) if file == "image" else label_of(config.data_dir)
    try:
        batch = next(stream)
        os.truncate(path, 1000)
        if policy == "stop":
            with pytest.raises(DataError, match=f"{path} shrank from .* to 1000 bytes during the run"):
                list(itertools.islice(stream, 10))
            assert loader.bad_cases == ()
            return
        for number, expected in enumerate(truth, start=1):
            assert_equal([batch], [expected])
            # What was made ahead is not counted yet.
            met = replaced(config, number)
            assert [(case.case, case.samples) for case in loader.bad_cases] == [("case_00005", met)] * (
                met > 0
            )
            batch = next(stream)
    finally:
        loader.close()
    assert "shrank" in loader.bad_cases[0].reason


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_a_repaired_file_is_used_again(
    config: LoaderConfig, way: dict[str, object], how: str, whole: Path
) -> None:
    config = replace(config, on_bad_case="skip", **way)  # type: ignore[arg-type]
    truth = [*naive(config, 12, bad={BAD})[:8], *naive(config, 26)[8:]]
    assert replaced(config, 8) == 1
    assert replaced(config, 12, 8) == 0
    spoil_image(config.data_dir)
    loader = build(config, ONE, CPU)
    stream = iter(loader)
    try:
        for number, expected in enumerate(truth):
            assert_equal([next(stream)], [expected])
            if number == 7:
                if how == "in place":
                    shutil.copyfile(image_of(whole), image_of(config.data_dir))
                else:
                    shutil.copyfile(image_of(whole), config.data_dir / "new.npy")
                    (config.data_dir / "new.npy").replace(image_of(config.data_dir))
    finally:
        loader.close()
    assert [case.samples for case in loader.bad_cases] == [1]


@pytest.mark.parametrize("fault", ["removed", "forbidden", "replaced", "touched"])
def test_what_was_opened_is_read_whatever_becomes_of_its_name(
    config: LoaderConfig, way: dict[str, object], fault: str, whole: Path
) -> None:
    truth = naive(config, 9)
    loader = build(replace(config, **way), ONE, CPU)  # type: ignore[arg-type]
    stream = iter(loader)
    try:
        batches = [Batch(*(t.clone() for t in next(stream)))]
        for path in (image_of(config.data_dir), label_of(config.data_dir)):
            if fault == "removed":
                path.unlink()
            elif fault == "forbidden":
                path.chmod(0)
            elif fault == "replaced":
                np.save(config.data_dir / "new.npy", np.zeros((1, 4, 4, 4), np.float32))
                (config.data_dir / "new.npy").replace(path)
            else:
                os.utime(path, (1, 1))
        batches += [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(stream, 8)]
    finally:
        loader.close()
    assert_equal(batches, truth)
    assert loader.bad_cases == ()


def test_a_file_written_over_with_another_volume_is_bad(config: LoaderConfig, way: dict[str, object]) -> None:
    """Of as many bytes, so that only its header tells."""
    config = replace(config, on_bad_case="skip", **way)  # type: ignore[arg-type]
    truth = naive(config, 8, bad={BAD})
    loader = build(config, ONE, CPU)
    stream = iter(loader)
    try:
        batches = [Batch(*(t.clone() for t in next(stream)))]
        image = np.load(image_of(config.data_dir))
        np.save(image_of(config.data_dir), np.ascontiguousarray(image.swapaxes(1, 2)))
        batches += [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(stream, 7)]
    finally:
        loader.close()
    assert_equal(batches, truth)
    reason = f"{image_of(config.data_dir)} was written to during the run: preprocess this case again"
    assert loader.bad_cases[0].reason == reason


def test_a_run_goes_on_after_a_restart_with_a_case_that_cannot_even_be_opened(
    config: LoaderConfig, way: dict[str, object]
) -> None:
    config = replace(config, on_bad_case="skip", **way)  # type: ignore[arg-type]
    truth = naive(config, 16, bad={BAD, 0})
    before = fingerprint(config, ONE, CPU)
    cut(config.data_dir)
    image_of(config.data_dir, 0).write_bytes(b"")
    assert fingerprint(config, ONE, CPU) == before
    for done in (0, 4, 9):
        epoch, step = divmod(done, 7)
        batches, bad = run(config, 16 - done, Position(1 + epoch, step))
        assert_equal(batches, truth[done:])
        assert {case.case for case in bad} == {"case_00000", "case_00005"}  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"case_00000_x.npy is not a .npy file"):
        build(replace(config, on_bad_case="stop"), ONE, CPU)


def test_a_case_that_could_not_be_opened_has_no_place_in_a_cache(config: LoaderConfig, whole: Path) -> None:
    cut(config.data_dir)
    for name in ("workers", "workers, host cache", "dali, device cache"):
        settings = replace(config, on_bad_case="skip", **WAYS[name])  # type: ignore[arg-type]
        loader = build(settings, ONE, CPU)
        shutil.copyfile(image_of(whole), image_of(config.data_dir))
        for _ in itertools.islice(loader, 10):
            pass
        loader.close()
        reasons = [case.reason for case in loader.bad_cases]
        if "cache" in name:
            assert f"--data_cache {settings.data_cache} has no place for it" in reasons[0]
        else:
            assert reasons == [], "it was mended in time"
        cut(config.data_dir)


def test_a_file_that_shrinks_in_the_moment_of_reading_ends_its_worker(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at its size and the copy nothing can be done: the kernel's signal is reported."""
    loader = build(replace(config, num_workers=1), ONE, CPU)
    monkeypatch.setattr(MappedVolume, "check", lambda self: None)
    stream = iter(loader)
    next(stream)
    image_of(config.data_dir).open("wb").close()
    with pytest.raises(
        DataError, match=r"a worker lost its memory at case_\d+, case_\d+: a data file shrank"
    ):
        list(itertools.islice(stream, 10))
    loader.close()
