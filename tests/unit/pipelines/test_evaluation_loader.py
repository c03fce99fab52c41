import os
import threading
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.base import Shard, Volume
from pipelines.cases import Case
from pipelines.data_loader import LoaderConfig, build_evaluation
from pipelines.draw import Shape
from pipelines.errors import DataError
from pipelines.evaluation_loader import VolumeLoader
from tests.unit.pipelines.dataset import EVALUATION, write_case

CPU = torch.device("cpu")


def test_every_volume_arrives_whole_and_once(config: LoaderConfig) -> None:
    loader = build_evaluation(config, Shard(), CPU)
    for _ in range(2):
        volumes = {volume.case: volume for volume in loader}
        assert sorted(volumes) == [f"case_{n:05d}" for n in EVALUATION]
        for case, volume in volumes.items():
            assert (volume.image.dtype, volume.label.dtype) == (torch.float32, torch.uint8)
            np.testing.assert_array_equal(volume.image[0], np.load(config.data_dir / f"{case}_x.npy"))
            np.testing.assert_array_equal(volume.label[0], np.load(config.data_dir / f"{case}_y.npy"))
    assert len(loader) == 3
    loader.close()
    loader.close()


def test_images_stored_as_float16_arrive_as_float32(stored_half: LoaderConfig) -> None:
    for volume in build_evaluation(stored_half, Shard(), CPU):
        stored = np.load(stored_half.data_dir / f"{volume.case}_x.npy")
        assert (volume.image.dtype, stored.dtype) == (torch.float32, np.float16)
        np.testing.assert_array_equal(volume.image[0], stored.astype(np.float32))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_ranks_share_the_volumes(config: LoaderConfig, world: int) -> None:
    loaders = [build_evaluation(config, Shard(rank, world), CPU) for rank in range(world)]
    cases = [[volume.case for volume in loader] for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(names) for names in cases]
    assert sorted(name for names in cases for name in names) == [f"case_{n:05d}" for n in EVALUATION]


def write_empty(folder: Path, number: int, shape: Shape) -> None:
    np.save(folder / f"case_{number:05d}_x.npy", np.zeros((1, *shape), np.float32))
    np.save(folder / f"case_{number:05d}_y.npy", np.zeros((1, *shape), np.uint8))


def test_ranks_share_the_windows_evenly(config: LoaderConfig, tmp_path: Path) -> None:
    """Longest processing time first: the dearest rank has at most 4/3 of what the best sharing gives it."""
    depths = [16, 24, 32, 40, 48, 72, 96, 120]  # 1, 2, 3, 4, 5, 8, 11 and 14 windows of 16 at half overlap
    for number, depth in enumerate(depths):
        write_empty(tmp_path, number, (depth, 16, 16))
    (tmp_path / "cases.txt").write_text("".join(f"{number:05d}\n" for number in range(len(depths))))
    config = replace(
        config, data_dir=tmp_path, evaluation_cases=tmp_path / "cases.txt", val_input_shape=(16, 16, 16)
    )
    windows = {f"case_{number:05d}": depth // 8 - 1 for number, depth in enumerate(depths)}
    for world in (1, 2, 3):
        shares = [
            [volume.case for volume in build_evaluation(config, Shard(rank, world), CPU)]
            for rank in range(world)
        ]
        assert sorted(case for share in shares for case in share) == sorted(windows)
        makespan = max(sum(windows[case] for case in share) for share in shares)
        best = min(
            max(np.bincount(ranks, weights=list(windows.values()), minlength=world))
            for ranks in product(range(world), repeat=len(windows))
        )
        assert makespan <= 4 / 3 * best


def test_windows_are_what_is_shared_not_bytes(config: LoaderConfig, tmp_path: Path) -> None:
    # Windows of 16 at half overlap: 5, 5, and 4 of more bytes, since 3 voxels are cropped from two axes.
    for number, shape in enumerate([(16, 16, 48), (16, 16, 48), (19, 19, 40)]):
        write_empty(tmp_path, number, shape)
    # 9, 7 and 3 at half overlap, 4, 4 and 2 without.
    for number, shape in enumerate([(32, 32, 16), (16, 16, 64), (16, 16, 32)], start=10):
        write_empty(tmp_path, number, shape)
    config = replace(config, data_dir=tmp_path, evaluation_cases=tmp_path / "cases.txt")

    def shares(numbers: list[int], overlap: float) -> list[list[int]]:
        (tmp_path / "cases.txt").write_text("".join(f"{number:05d}\n" for number in numbers))
        run = replace(config, val_input_shape=(16, 16, 16), overlap=overlap)
        loaders = [build_evaluation(run, Shard(rank, 2), CPU) for rank in range(2)]
        return [[int(volume.case[-5:]) for volume in loader] for loader in loaders]

    assert shares([0, 1, 2], 0.5) == [[0, 2], [1]]
    assert shares([10, 11, 12], 0.5) == [[10], [11, 12]]
    assert shares([10, 11, 12], 0.0) == [[10, 12], [11]]


@pytest.mark.parametrize("overlap", [1.0, -0.1, 0.95])
def test_windows_must_leave_a_stride(config: LoaderConfig, overlap: float) -> None:
    with pytest.raises(DataError, match=rf"--overlap is {overlap}, expected .* stride of a voxel"):
        replace(config, val_input_shape=(16, 16, 16), overlap=overlap)


def test_the_layout_is_in_the_strides(config: LoaderConfig) -> None:
    volume = next(iter(build_evaluation(replace(config, layout="NDHWC"), Shard(), CPU)))
    assert volume.image.is_contiguous(memory_format=torch.channels_last_3d)
    assert volume.image.stride(1) == 1


def test_a_volume_left_early_leaves_no_thread(config: LoaderConfig) -> None:
    for _ in build_evaluation(config, Shard(), CPU):
        break
    assert [t.name for t in threading.enumerate() if t.name.startswith("evaluation")] == []


def test_one_volume_is_read_ahead_and_no_more(config: LoaderConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = build_evaluation(config, Shard(), CPU)
    assert isinstance(loader, VolumeLoader)
    begun: list[str] = []
    second = threading.Event()
    read = loader._read

    def noted(case: Case) -> Volume:
        begun.append(case.name)
        if len(begun) == 2:
            second.set()
        return read(case)

    monkeypatch.setattr(loader, "_read", noted)
    for used, volume in enumerate(loader, start=1):
        assert second.wait(10), "the next is read while the first is used"
        time.sleep(0.05)
        assert len(begun) == min(used + 1, 3)
        assert volume.case == begun[used - 1]


def test_nothing_to_evaluate_is_an_error(config: LoaderConfig, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("00099\n")
    with pytest.raises(DataError, match=r"no case of .* is listed in .*none.txt"):
        build_evaluation(replace(config, evaluation_cases=tmp_path / "none.txt"), Shard(), CPU)


def test_a_fault_names_the_file(config: LoaderConfig, tmp_path: Path) -> None:
    shape = (1, 4, 5, 6)
    (tmp_path / "cases.txt").write_text("00000\n")
    np.save(tmp_path / "case_00000_x.npy", np.zeros(shape, np.float32))
    np.save(tmp_path / "case_00000_y.npy", np.full(shape, 7, np.uint8))
    config = replace(config, data_dir=tmp_path, evaluation_cases=tmp_path / "cases.txt")
    with pytest.raises(DataError, match="case_00000_y.npy: a label of class 7"):
        next(iter(build_evaluation(config, Shard(), CPU)))
    np.save(tmp_path / "case_00000_y.npy", np.zeros(shape, np.float32))
    with pytest.raises(DataError, match="case_00000_y.npy holds float32, expected uint8"):
        next(iter(build_evaluation(config, Shard(), CPU)))


def test_a_fault_in_a_header_is_found_before_any_evaluation(config: LoaderConfig, tmp_path: Path) -> None:
    write_case(tmp_path, EVALUATION[0], (20, 20, 20))
    path = tmp_path / f"case_{EVALUATION[0]:05d}_x.npy"
    os.truncate(path, 1000)
    with pytest.raises(DataError, match=rf"{path.name} has 1000 bytes, expected 32128"):
        build_evaluation(replace(config, data_dir=tmp_path), Shard(), CPU)


def test_storage_that_hangs_is_an_error_in_bounded_time(
    config: LoaderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    loader = build_evaluation(replace(config, timeout=0.5), Shard(), CPU)
    monkeypatch.setattr("pipelines.evaluation_loader.open_case", lambda case: hanging.wait(60))
    monkeypatch.setattr("pipelines.planner._CLOSING_S", 0.1)
    begin = time.monotonic()
    with pytest.raises(DataError, match=r"case_00001 could not be read within 0.5 s"):
        list(loader)
    assert time.monotonic() - begin < 5
    hanging.set()
