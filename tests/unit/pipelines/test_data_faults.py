"""Cases that are bad, or go bad in mid-run, on every way from the files to a batch: stop and skip."""

import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.base import Batch, Position, Shard
from pipelines.cases import cases_of
from pipelines.config import LoaderConfig
from pipelines.data_loader import build, build_evaluation, fingerprint, schedule
from pipelines.errors import CaseError, DataError
from pipelines.volume_reader import MappedVolume
from pipelines.volumes import FileVolumes
from tests.unit.pipelines.dataset import write_case
from tests.unit.pipelines.loaders import CPU, ONE, assert_equal, naive, take

WAYS: dict[str, dict[str, object]] = {
    "in this process": {"num_workers": 0},
    "workers": {"num_workers": 2, "prefetch": 1},
    "workers, host cache": {"num_workers": 2, "prefetch": 1, "data_cache": "host"},
    "dali": {"loader": "dali", "num_workers": 1, "prefetch": 1},
    "dali, host cache": {"loader": "dali", "num_workers": 2, "prefetch": 1, "data_cache": "host"},
    "dali, device cache": {"loader": "dali", "num_workers": 1, "prefetch": 1, "data_cache": "device"},
}
CASES = 16
"""Of which the evaluation takes number 15: the numbers of training cases are their places."""
BAD = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for number in range(CASES):
        write_case(folder, number, (18 + number % 3, 16, 12))
    (folder / "evaluation_cases.txt").write_text("00015\n")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.fixture
def config(folder: Path) -> LoaderConfig:
    """Seven steps an epoch; seed 71 draws case 5 in batches 6, 12 and 19, counted from 0."""
    return LoaderConfig(
        data_dir=folder,
        evaluation_cases=folder / "evaluation_cases.txt",
        input_shape=(16, 12, 8),
        oversampling=0.5,
        seed=71,
    )


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, object]:
    if WAYS[request.param].get("loader") == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    return WAYS[request.param]


def image_of(folder: Path, number: int = BAD) -> Path:
    return folder / f"case_{number:05d}_x.npy"


def label_of(folder: Path, number: int = BAD) -> Path:
    return folder / f"case_{number:05d}_y.npy"


def spoil_image(folder: Path, value: float = np.nan) -> None:
    image = np.load(image_of(folder))
    image[...] = value
    np.save(image_of(folder), image)


def spoil_label(folder: Path) -> None:
    np.save(label_of(folder), np.full_like(np.load(label_of(folder)), 3))


def cut(folder: Path) -> None:
    os.truncate(image_of(folder), 1000)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "nan": (spoil_image, "case_00005_x.npy.* holds values that are not finite"),
    "infinity": (lambda folder: spoil_image(folder, -np.inf), "case_00005_x.npy.* not finite"),
    "classes": (spoil_label, "case_00005_y.npy: a label of class 3, expected 0 to 2"),
}


def replaced(config: LoaderConfig, count: int, begin: int = 0, shard: Shard = ONE) -> int:
    """Samples of the bad case in batches ``begin`` to ``count``."""
    steps = itertools.islice(schedule(config, shard).steps(Position()), begin, count)
    return sum(step.cases.count(BAD) for step in steps)


def run(config: LoaderConfig, count: int, start: Position | None = None) -> tuple[list[Batch], object]:
    loader = build(config, ONE, CPU, start or Position())
    try:
        batches = [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(loader, count)]
        return batches, loader.bad_cases
    finally:
        loader.close()


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


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("planner")]
