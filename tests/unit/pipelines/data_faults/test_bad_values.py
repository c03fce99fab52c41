"""Cases that are bad from the beginning, on every way from the files to a batch: stop and skip."""

import itertools
import os
from dataclasses import replace

import numpy as np
import pytest

from pipelines.base import Batch, Shard
from pipelines.cases import cases_of
from pipelines.config import LoaderConfig
from pipelines.data_loader import build, build_evaluation
from pipelines.errors import CaseError, DataError
from pipelines.volumes import FileVolumes
from tests.unit.pipelines.data_faults.faults import (
    BAD,
    CASES,
    FAULTS,
    WAYS,
    image_of,
    replaced,
    run,
    spoil_image,
)
from tests.unit.pipelines.loaders import CPU, ONE, assert_equal, naive, take


@pytest.mark.parametrize("fault", FAULTS)
def test_stop_names_the_file(config: LoaderConfig, way: dict[str, object], fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(config.data_dir)
    with pytest.raises(DataError, match=message) as caught:
        take(replace(config, **way), 7)  # type: ignore[arg-type]
    assert str(image_of(config.data_dir))[:-6] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_skip_draws_the_next_case_at_the_same_place(
    config: LoaderConfig, way: dict[str, object], fault: str
) -> None:
    spoil, message = FAULTS[fault]
    spoil(config.data_dir)
    config = replace(config, on_bad_case="skip", **way)  # type: ignore[arg-type]
    batches, bad = run(config, 16)
    assert_equal(batches, naive(config, 16, bad={BAD}))
    assert isinstance(bad, tuple)
    (found,) = bad
    assert (found.case, found.samples) == ("case_00005", replaced(config, 16))
    assert found.samples == 2
    pytest.raises(AssertionError, assert_equal, batches, naive(replace(config, seed=72), 16, bad={BAD}))
    with pytest.raises(CaseError, match=message):
        raise CaseError(found.reason)


def test_a_patch_is_judged_by_itself_where_windows_are_read(config: LoaderConfig) -> None:
    """And so alike by both loaders, whatever the number of workers."""
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    for number in range(CASES - 1):
        image = np.load(image_of(config.data_dir, number))
        image[0, 8 + number % 3, 2 + number % 12, 1 + number % 9] = (np.nan, np.inf, -np.inf)[number % 3]
        np.save(image_of(config.data_dir, number), image)
    config = replace(config, on_bad_case="skip")
    truth = naive(config, 14)
    counts = []
    for name in ("in this process", "workers", "dali"):
        batches, bad = run(replace(config, **WAYS[name]), 14)  # type: ignore[arg-type]
        assert_equal(batches, truth)
        counts.append(bad)
    assert counts[0] == counts[1] == counts[2]
    # Some patches have the one voxel, some have not.
    assert 0 < sum(case.samples for case in counts[0]) < 28  # type: ignore[attr-defined]


def test_images_stored_as_float16_are_judged_as_such(config: LoaderConfig, way: dict[str, object]) -> None:
    for number in range(CASES):
        image = np.load(image_of(config.data_dir, number)).astype(np.float16)
        image[0, 9, 8, 6] = np.nan if number == BAD else 65504
        if number == BAD:
            image[...] = np.nan
        np.save(image_of(config.data_dir, number), image)
    config = replace(config, on_bad_case="skip", **way)  # type: ignore[arg-type]
    batches, bad = run(config, 10)
    assert_equal(batches, naive(config, 10, bad={BAD}))
    assert [case.case for case in bad] == ["case_00005"]  # type: ignore[attr-defined]


def test_huge_values_are_values(config: LoaderConfig, way: dict[str, object]) -> None:
    for number in range(CASES - 1):
        image = np.load(image_of(config.data_dir, number))
        image[0, 6:12, 4:12, 3:9] = 3e38 if number % 2 else -3e38
        np.save(image_of(config.data_dir, number), image)
    assert_equal(take(replace(config, **way), 8), naive(config, 8))  # type: ignore[arg-type]


def test_a_cache_of_float16_judges_what_it_holds(config: LoaderConfig) -> None:
    spoil_image(config.data_dir, 1e6)
    for loader, cache in (("pytorch", "host"), ("dali", "host"), ("dali", "device")):
        settings = replace(config, loader=loader, num_workers=0, data_cache=cache, cache_dtype="float16")  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"case_00005_x.npy holds .* not finite as float16"):
            take(settings, 7)


def test_static_shards_keep_to_their_own_cases(config: LoaderConfig, way: dict[str, object]) -> None:
    config = replace(config, on_bad_case="skip", sharding="static", batch_size=1, **way)  # type: ignore[arg-type]
    spoil_image(config.data_dir)
    for shard in (Shard(rank, 2) for rank in range(2)):
        loader = build(config, shard, CPU)
        batches = [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(loader, 16)]
        loader.close()
        assert_equal(batches, naive(config, 16, shard, bad={BAD}))
        mine = BAD in cases_of(shard, CASES - 1, config.seed, "static")
        assert sum(case.samples for case in loader.bad_cases) == replaced(config, 16, shard=shard)
        assert bool(loader.bad_cases) == mine


def test_no_good_case_is_an_error(config: LoaderConfig, way: dict[str, object]) -> None:
    for number in range(CASES - 1):
        image = np.load(image_of(config.data_dir, number))
        image[...] = np.nan
        np.save(image_of(config.data_dir, number), image)
    with pytest.raises(
        DataError, match=r"no good case left: all 15 training cases .*case_\d+_x.npy"
    ) as caught:
        take(replace(config, on_bad_case="skip", **way), 1)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    for number in range(CASES - 1):
        os.truncate(image_of(config.data_dir, number), 0)
    with pytest.raises(DataError, match=r"no good case left: .*case_00000_x.npy is not a .npy file"):
        build(replace(config, on_bad_case="skip", **way), ONE, CPU)  # type: ignore[arg-type]


def test_a_bad_case_in_a_cache_is_not_read_again_and_again(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_image(config.data_dir)
    read: list[int] = []
    image = FileVolumes.image
    monkeypatch.setattr(FileVolumes, "image", lambda self, case: read.append(case) or image(self, case))
    for loader, cache in (("pytorch", "host"), ("dali", "device")):
        settings = replace(config, loader=loader, num_workers=0, data_cache=cache, on_bad_case="skip")  # type: ignore[arg-type]
        read.clear()
        run(settings, 30)
        assert replaced(settings, 30) > 2
        assert read.count(BAD) == 1


def test_files_that_dali_reads_are_looked_at_before(config: LoaderConfig) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    spoil_image(config.data_dir)
    with pytest.raises(DataError, match=r"case_00005_x.npy holds values that are not finite as float32"):
        take(replace(config, loader="dali", reader="file"), 7)
    for reader in ("file", "gds"):
        with pytest.raises(
            DataError, match=f"--on_bad_case skip cannot replace what --reader {reader} reads"
        ):
            replace(config, loader="dali", reader=reader, on_bad_case="skip")
    with pytest.raises(DataError, match="--on_bad_case ignore is not one of stop, skip"):
        replace(config, on_bad_case="ignore")  # type: ignore[arg-type]


def test_an_evaluation_never_skips(config: LoaderConfig) -> None:
    path = image_of(config.data_dir, CASES - 1)
    image = np.load(path)
    image[0, 3, 3, 3] = np.nan
    np.save(path, image)
    loader = build_evaluation(replace(config, on_bad_case="skip"), ONE, CPU)
    with pytest.raises(DataError, match=f"{path} holds values that are not finite as float32"):
        list(loader)


def test_synthetic_batches_have_no_bad_cases() -> None:
    assert build(LoaderConfig(loader="synthetic", input_shape=(8, 8, 8)), ONE, CPU).bad_cases == ()
