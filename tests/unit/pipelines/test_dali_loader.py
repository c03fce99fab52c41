"""``--loader dali`` on DALI's CPU backend against the plain definition, for every front."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import dali_builder
from pipelines.base import Batch, Position, Shard
from pipelines.dali_train_loader import DaliTrainLoader
from pipelines.data_loader import LoaderConfig, build
from pipelines.errors import DataError
from pipelines.volumes import FileVolumes
from tests.unit.pipelines.dataset import write_case
from tests.unit.pipelines.loaders import CPU, ONE, assert_equal, naive, take

FRONTS = ["none", "host", "device", "file"]


def front(config: LoaderConfig, name: str, **changes: object) -> LoaderConfig:
    chosen = {"reader": "file"} if name == "file" else {"data_cache": name}
    return replace(config, loader="dali", **chosen, **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("planner")]


@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize(("workers", "prefetch", "layout"), [(0, 1, "NCDHW"), (2, 2, "NDHWC")])
def test_every_front_emits_the_defined_samples(
    config: LoaderConfig, name: str, workers: int, prefetch: int, layout: str
) -> None:
    # Three batches an epoch: into the fifth epoch. Noise is included: the host makes it, as the truth does.
    settings = front(config, name, num_workers=workers, prefetch=prefetch, layout=layout)
    assert_equal(take(settings, 14), naive(config, 14))


@pytest.mark.parametrize("name", ["none", "file"])
def test_batches_have_the_asked_for_dtype_and_strides(config: LoaderConfig, name: str) -> None:
    expected = naive(config, 8)
    for dtype in (torch.float16, torch.bfloat16):
        settings = front(config, name, layout="NDHWC", image_dtype=str(dtype).removeprefix("torch."))
        for batch, truth in zip(take(settings, 8), expected, strict=True):
            assert (batch.image.dtype, batch.label.dtype) == (dtype, torch.uint8)
            assert batch.image.shape == truth.image.shape
            assert batch.image.is_contiguous(memory_format=torch.channels_last_3d)
            assert batch.image.stride(1) == 1
            # DALI rounds ties away from zero, torch to even: one unit in the last place.
            unit = torch.finfo(dtype).eps if dtype == torch.float16 else 0.0
            torch.testing.assert_close(batch.image, truth.image.to(dtype), rtol=unit, atol=1e-7)
            assert torch.equal(batch.label, truth.label)


@pytest.mark.parametrize("loader", [*FRONTS, "pytorch"])
def test_images_stored_as_float16_are_read_as_they_are(stored_half: LoaderConfig, loader: str) -> None:
    settings = stored_half if loader == "pytorch" else front(stored_half, loader)
    assert_equal(take(settings, 8), naive(stored_half, 8))


@pytest.mark.parametrize(("loader", "cache"), [("dali", "host"), ("dali", "device"), ("pytorch", "host")])
def test_a_cache_of_float16_holds_what_files_of_float16_would(
    config: LoaderConfig, stored_half: LoaderConfig, loader: str, cache: str
) -> None:
    settings = replace(config, loader=loader, data_cache=cache, cache_dtype="float16")  # type: ignore[arg-type]
    assert_equal(take(settings, 8), naive(stored_half, 8))


@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize("done", [1, 3, 5, 7])
def test_a_restart_goes_on_where_it_stopped(config: LoaderConfig, name: str, done: int) -> None:
    epoch, step = divmod(done, 3)
    resumed = take(front(config, name), 5, start=Position(1 + epoch, step))
    assert_equal(resumed, naive(config, done + 5)[done:])


@pytest.mark.parametrize("name", FRONTS)
def test_two_ranks_read_what_one_rank_would(config: LoaderConfig, name: str) -> None:
    whole = naive(config, 8)
    ranks = [take(front(config, name, batch_size=1), 8, Shard(rank, 2)) for rank in range(2)]
    for k, batch in enumerate(whole):
        assert torch.equal(batch.image, torch.cat([rank[k].image for rank in ranks]))
        assert torch.equal(batch.label, torch.cat([rank[k].label for rank in ranks]))


@pytest.mark.parametrize("name", FRONTS)
def test_static_shards_read_their_own_cases(config: LoaderConfig, name: str) -> None:
    config = replace(config, sharding="static", batch_size=1)
    for rank in range(3):
        shard = Shard(rank, 3)
        assert_equal(take(front(config, name), 7, shard), naive(config, 7, shard))


def test_a_reader_is_given_new_files_when_its_list_ends(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dali_builder, "_STEPS_PER_LIST", 4)
    assert_equal(take(front(config, "file", num_workers=2), 14), naive(config, 14))


@pytest.mark.parametrize("name", ["none", "host"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_stays_as_it_is_until_the_next_is_asked_for(
    config: LoaderConfig, name: str, workers: int
) -> None:
    loader = build(front(config, name, num_workers=workers, prefetch=1), ONE, CPU)
    for batch, truth in zip(loader, naive(config, 40), strict=False):
        threading.Event().wait(0.005)
        assert_equal([batch], [truth])
    loader.close()


@pytest.mark.parametrize("name", FRONTS)
def test_closing_and_iterating_again(config: LoaderConfig, name: str) -> None:
    loader = build(front(config, name, num_workers=2), ONE, CPU)
    first = iter(loader)
    next(first)
    again = [Batch(*(t.clone() for t in batch)) for batch in itertools.islice(loader, 4)]
    assert_equal(again, naive(config, 4))
    with pytest.raises(RuntimeError, match="closed or iterated again"):
        next(first)
    loader.close()
    loader.close()
    with pytest.raises(RuntimeError, match="this loader is closed"):
        next(iter(loader))


@pytest.mark.parametrize("fault", ["gone", "shorter"])
def test_a_file_that_goes_while_it_is_read_whole_is_named(
    config: LoaderConfig, tmp_path: Path, fault: str
) -> None:
    for number in (2, 3):
        write_case(tmp_path, number, (20, 20, 20))
    loader = build(front(replace(config, data_dir=tmp_path), "file"), ONE, CPU)
    stream = iter(loader)
    next(stream)
    for path in tmp_path.glob("*_x.npy"):
        if fault == "gone":
            path.unlink()
        else:
            np.save(path, np.zeros((1, 4, 4, 4), np.float32))
    with pytest.raises(DataError, match=r"case_0000\d") as caught:
        list(itertools.islice(stream, 30))
    assert "\n" not in str(caught.value)
    loader.close()


LEFT_OPEN = """
import sys, torch
from pathlib import Path
from pipelines.base import Shard
from pipelines.data_loader import LoaderConfig, build
folder = Path(sys.argv[1])
config = LoaderConfig(loader="dali", data_dir=folder, evaluation_cases=folder / "evaluation_cases.txt",
                      input_shape=(16, 12, 8), num_workers=2, data_cache=sys.argv[2])
stream = iter(build(config, Shard(), torch.device("cpu")))
next(stream)
sys.exit(3)
"""


@pytest.mark.parametrize("cache", ["none", "host"])
def test_a_program_may_end_without_closing(config: LoaderConfig, cache: str) -> None:
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", LEFT_OPEN, str(config.data_dir), cache]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "")


def test_an_exception_in_the_consumer_leaves_no_thread(config: LoaderConfig) -> None:
    loader = build(front(config, "none", num_workers=2), ONE, CPU)

    def consume() -> None:
        for _ in loader:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    loader.close()


def test_bytes_are_counted(config: LoaderConfig) -> None:
    def count(name: str) -> int:
        loader = build(front(config, name, oversampling=0.0, num_workers=2), ONE, CPU)
        assert isinstance(loader, DaliTrainLoader)
        for _ in itertools.islice(loader, 12):
            pass
        loader.close()
        return loader.bytes_read

    total = sum(path.stat().st_size for path in config.data_dir.glob("*.npy"))
    # Each of 24 samples: 16 bands of an image and of a label, on one to three pages of 4 KiB each.
    assert 24 * 32 * 4096 <= count("none") <= 24 * 32 * 3 * 4096
    # Each case once; the evaluation cases are not touched.
    assert 0 < count("host") < total + 20 * 4096
    assert count("host") == count("device")
    assert count("file") > total


def test_storage_that_hangs_is_an_error_in_bounded_time(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(FileVolumes, "patch", lambda *_: hanging.wait(60))
    monkeypatch.setattr("pipelines.planner._CLOSING_S", 0.1)
    loader = build(front(config, "none", num_workers=2, timeout=0.5), ONE, CPU)
    with pytest.raises(DataError, match=r"case_\d+, case_\d+ could not be read within 0.5 s"):
        next(iter(loader))
    hanging.set()
    for thread in threading.enumerate():
        if thread.name.startswith("planner"):
            thread.join(10)


@pytest.mark.parametrize("name", FRONTS)
def test_a_fault_in_the_data_names_the_file(config: LoaderConfig, tmp_path: Path, name: str) -> None:
    for number in range(2, 4):
        write_case(tmp_path, number, (20, 20, 20))
    label = np.load(tmp_path / "case_00002_y.npy")
    label[...] = 3
    np.save(tmp_path / "case_00002_y.npy", label)
    loader = build(front(replace(config, data_dir=tmp_path), name, num_workers=2), ONE, CPU)
    with pytest.raises(DataError) as caught:
        next(iter(loader))
    loader.close()
    path = tmp_path / "case_00002_y.npy"
    assert str(caught.value).startswith(f"{path}: a label of class 3, expected 0 to 2")
    assert "\n" not in str(caught.value)


def test_a_label_without_foreground_is_cropped_anywhere(config: LoaderConfig, tmp_path: Path) -> None:
    for number in (2, 3):
        write_case(tmp_path, number, (20, 20, 20))
        np.save(tmp_path / f"case_{number:05d}_y.npy", np.zeros((1, 20, 20, 20), np.uint8))
    config = replace(config, data_dir=tmp_path, oversampling=1.0)
    for name in FRONTS:
        assert_equal(take(front(config, name), 3), naive(config, 3))


def test_mixed_storage_is_refused(config: LoaderConfig, tmp_path: Path) -> None:
    for number in (2, 3):
        write_case(tmp_path, number, (20, 20, 20))
    half = np.load(tmp_path / "case_00003_x.npy").astype(np.float16)
    np.save(tmp_path / "case_00003_x.npy", half)
    with pytest.raises(DataError, match=r"case_00003_x.npy holds float16, but .*case_00002_x.npy float32"):
        build(front(replace(config, data_dir=tmp_path), "none"), ONE, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dali_device": "cpu", "loader": "pytorch"}, "--dali_device cpu goes with --loader dali"),
        ({"data_cache": "host", "loader": "synthetic"}, "--loader synthetic has no data to keep"),
        ({"data_cache": "device", "loader": "pytorch"}, "--data_cache device is one of --loader dali's"),
        ({"reader": "file", "loader": "pytorch"}, "--reader file is one of --loader dali's"),
        ({"reader": "file", "data_cache": "host"}, "--reader file reads files again each time"),
        ({"cache_dtype": "float16"}, "--cache_dtype goes with --data_cache"),
        ({"dali_device": "gpu"}, "--dali_device gpu needs a CUDA device"),
        ({"reader": "gds"}, "--reader gds needs --dali_device gpu"),
        ({"sharding": "dynamic"}, "--sharding dynamic is not one of global, static"),
        ({"timeout": 0}, "--loader_timeout is 0"),
    ],
)
def test_what_does_not_go_together_is_refused(
    config: LoaderConfig, change: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build(replace(config, **({"loader": "dali"} | change)), ONE, CPU)  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused_with_the_numbers(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("host_volumes", "device_volumes"):
        monkeypatch.setattr(f"pipelines.{module}.available_memory", lambda: 100_000)
    for name in ("host", "device"):
        with pytest.raises(DataError, match=rf"--data_cache {name} needs 1\d+ bytes .* but 100000 are free"):
            build(front(config, name), ONE, CPU)


def test_a_missing_dali_is_named(config: LoaderConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.dali_loader.dali", None)
    with pytest.raises(DataError, match="nvidia.dali, which is not installed: pip install"):
        build(front(config, "none"), ONE, CPU)
