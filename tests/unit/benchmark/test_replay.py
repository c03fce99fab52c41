"""A replayed patch is the loader's, bit for bit, and what cannot be replayed gets a sentence."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from benchmark.__main__ import main
from benchmark.replay import replay
from pipelines.base import Position, Shard
from pipelines.config import LoaderConfig
from pipelines.data_loader import build, schedule
from preprocess.spec import evaluation_ids
from tests.unit.pipelines.dataset import PATCH, write_case

CPU = torch.device("cpu")
FLAGS = (
    "--input_shape", *map(str, PATCH), "--val_input_shape", *map(str, PATCH), "--filters", "4", "8",
    "--oversampling", "0.5", "--seed", "3",
)  # fmt: skip
CASES = sorted(set(range(30)) - evaluation_ids())[:7]
"""To train on, by the split of the real data."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven cases of different sizes."""
    folder = tmp_path_factory.mktemp("cases")
    for number in CASES:
        write_case(folder, number, (20 + number % 7, 16 + number % 3, 12 + number % 5))
    return folder


@pytest.fixture
def config(data: Path) -> LoaderConfig:
    return LoaderConfig(data_dir=data, input_shape=PATCH, oversampling=0.5, seed=3, num_workers=0)


def handed_out(config: LoaderConfig, world: int, epoch: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """What the loaders of all ranks hand out in an epoch, by the place in its order."""
    found = {}
    for rank in range(world):
        shard = Shard(rank, world)
        loader = build(config, shard, CPU, Position(epoch))
        steps = schedule(config, shard).steps(Position(epoch))
        for batch, step in itertools.islice(zip(loader, steps, strict=False), len(loader)):
            for place, image, label in zip(step.positions, batch.image, batch.label, strict=True):
                found[place] = image[0].float().numpy().copy(), label[0].numpy().copy()
        loader.close()
    return found


@pytest.mark.parametrize(
    ("changes", "world"),
    [
        ({}, 1),
        ({"last_batch": "pad", "batch_size": 4, "brightness": "nvidia"}, 1),
        ({"last_batch": "pad", "batch_size": 2, "ga_steps": 2}, 2),
        ({"sharding": "static", "batch_size": 1}, 3),
        ({"data_cache": "host", "cache_dtype": "float16"}, 1),
        ({"image_dtype": "bfloat16"}, 1),
    ],
)
def test_every_sample_of_an_epoch_is_the_loaders(
    config: LoaderConfig, changes: dict[str, object], world: int
) -> None:
    config = replace(config, **changes)  # type: ignore[arg-type]
    expected = handed_out(config, world, epoch=4)
    assert len(expected) == schedule(config, Shard(0, world)).samples_per_epoch
    for index, (image, label) in expected.items():
        found = replay(config, world, 4, index)
        np.testing.assert_array_equal(found.image, image, strict=True)
        np.testing.assert_array_equal(found.label, label, strict=True)


def test_the_files_hold_the_patch_and_what_was_drawn_is_printed(
    config: LoaderConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, label = handed_out(replace(config, last_batch="pad"), 1, epoch=9)[7]
    command = ["replay", "--data_dir", str(config.data_dir), *FLAGS, "--last_batch", "pad"]
    assert main([*command, "--epoch", "9", "--index", "7", "--out", str(tmp_path / "out")]) == 0
    printed = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    drawn = replay(replace(config, last_batch="pad"), 1, 9, 7)
    assert printed["case"] == drawn.case
    places = [tuple(map(int, found)) for found in re.findall(r"[DHW] (\d+):(\d+)", printed["window"])]
    assert tuple(start for start, _ in places) == drawn.window.start
    assert tuple(stop - start for start, stop in places) == PATCH
    flips = [axis in printed["flips"] for axis in "DHW"]
    assert flips == list(drawn.augmentation.flips)
    assert printed.keys() == {
        "case", "window", "flips", "brightness", "noise", "values", "image", "label",
    }  # fmt: skip
    for kind, expected in (("image", image), ("label", label)):
        path = Path(printed[kind])
        assert path.name == f"{drawn.case}_seed3_epoch9_index7_{kind}.nii.gz"
        stored = nibabel.load(path)
        np.testing.assert_array_equal(np.asarray(stored.dataobj), expected, strict=True)
        assert stored.header.get_zooms() == pytest.approx((1.6, 1.2, 1.2))
        assert nibabel.aff2axcodes(stored.affine) == ("I", "P", "L")  # as KiTS19's segmentations have it
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_brightness_and_noise_are_told(config: LoaderConfig, capsys: pytest.CaptureFixture[str]) -> None:
    bright, noisy = None, None
    for epoch, index in itertools.product(range(1, 10), range(6)):
        augmentation = replay(config, 1, epoch, index).augmentation
        bright = (epoch, index, augmentation.brightness) if augmentation.brightness != 1.0 else bright
        noisy = (epoch, index, augmentation.noise_sigma) if augmentation.noise_sigma else noisy
    assert bright
    assert noisy
    for key, (epoch, index, value), form in (("brightness", bright, "factor"), ("noise", noisy, "sigma")):
        flags = ["--epoch", str(epoch), "--index", str(index), "--out", str(config.data_dir / "out")]
        assert main(["replay", "--data_dir", str(config.data_dir), *FLAGS, *flags]) == 0
        assert f"{key}: {form} {value:.6f}\n" in capsys.readouterr().out


def test_only_the_samples_own_case_is_opened(config: LoaderConfig, tmp_path: Path) -> None:
    case = replay(config, 1, 1, 0).case
    for path in config.data_dir.glob("case_*.npy"):
        (tmp_path / path.name).write_bytes(path.read_bytes() if path.name.startswith(case) else b"broken")
    found = replay(replace(config, data_dir=tmp_path), 1, 1, 0)
    np.testing.assert_array_equal(found.image, replay(config, 1, 1, 0).image)


def test_under_skip_the_case_that_stood_in_is_shown(config: LoaderConfig, tmp_path: Path) -> None:
    scheduled = replay(config, 1, 2, 1).case
    for path in config.data_dir.glob("case_*.npy"):
        (tmp_path / path.name).write_bytes(
            b"broken" if path.name == f"{scheduled}_x.npy" else path.read_bytes()
        )
    skipping = replace(config, data_dir=tmp_path, on_bad_case="skip")
    found = replay(skipping, 1, 2, 1)
    image, label = handed_out(skipping, 1, epoch=2)[1]
    np.testing.assert_array_equal(found.image, image)
    np.testing.assert_array_equal(found.label, label)
    assert found.case != scheduled
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith(f"{scheduled} is bad: ")


def ended(command: list[str]) -> int | str | None:
    """The exit status, also of a parser that does not return."""
    try:
        return main(command)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("flags", "status", "sentence"),
    [
        (["--index", "6"], 1, r"--index 6 is not in an epoch of 6 samples \(7 cases.*expected at most 5"),
        (["--index", "-1"], 2, r"--index: expected a whole number of at least 0"),
        (["--index", "0", "--seed", "-1"], 2, r"--seed: expected the seed of the run"),
        (["--index", "0", "--loader", "synthetic"], 2, r"--loader synthetic .* nothing to replay"),
        (["--index", "0", "--data_dir", "absent"], 1, r"absent is not a folder"),
        (["--index", "0", "--world_size", "9"], 1, r"do not fill one step of 18 samples"),
        (["--index", "0", "--input_shape", "64", "64", "64"], 1, r"does not fit a volume"),
    ],
)
def test_what_cannot_be_replayed_gets_one_sentence(
    data: Path,
    tmp_path: Path,
    flags: list[str],
    status: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    command = ["replay", "--data_dir", str(data), *FLAGS, "--epoch", "1", "--out", str(out), *flags]
    assert ended(command) == status
    said = capsys.readouterr()
    assert re.search(sentence, said.err), said.err
    assert len(said.err.splitlines()) == 1
    assert not out.exists()


def test_a_case_that_is_not_finite_is_named(
    config: LoaderConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in CASES:
        write_case(tmp_path, number, PATCH)
        image = np.full((1, *PATCH), np.nan, dtype=np.float32)
        np.save(tmp_path / f"case_{number:05d}_x.npy", image)
    flags = ["--epoch", "1", "--index", "0", "--out", str(tmp_path / "out")]
    assert main(["replay", "--data_dir", str(tmp_path), *FLAGS, *flags]) == 1
    error = capsys.readouterr().err
    assert re.search(r"case_000\d\d_x\.npy.* not finite", error)
    assert len(error.splitlines()) == 1
