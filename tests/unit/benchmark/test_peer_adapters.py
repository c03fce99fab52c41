"""Every contender delivers what all have to deliver; a peer that is not installed is skipped."""

import mmap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.peers import contender, fresh
from benchmark.peers.comparison import cold_read
from benchmark.peers.contender import Settings, not_installed
from benchmark.peers.contenders import CONTENDERS
from benchmark.peers.mlperf_reference import find_reference


@pytest.fixture
def whole(settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose training cases fill two batches."""
    cases = settings.cases()
    file = tmp_path / "evaluation_cases.txt"
    file.write_text(settings.evaluation_cases.read_text() + f"\n{cases[-1].id:05}\n")
    return replace(settings, evaluation_cases=file)


@pytest.mark.parametrize("name", CONTENDERS)
def test_batches_are_of_one_kind(name: str, whole: Settings) -> None:
    if missing := CONTENDERS[name].missing(whole):
        pytest.skip(f"{name}: {missing}")
    if CONTENDERS[name].own_files:
        fresh.run("prepare", name, whole)
        assert all(path.is_file() for path in CONTENDERS[name].files(whole))
    # The process itself checks shapes and types.
    assert fresh.run("one_pass", name, replace(whole, one_pass=True))["images"] == 4
    assert fresh.run("rate", name, replace(whole, warmup_s=0.1, seconds=0.3))["images_per_s"] > 0


def test_dali_classic_yields_patches(settings: Settings) -> None:
    if missing := CONTENDERS["dali-classic"].missing(settings):
        pytest.skip(missing)
    batches = CONTENDERS["dali-classic"].start(replace(settings, workers=1)).batches
    for _ in range(4):
        image, label = next(batches)
        assert image.shape == label.shape == (2, 1, 32, 32, 32)
        assert (image.dtype, label.dtype) == (torch.float32, torch.uint8)
        assert int(label.max()) <= 2
        assert image.std() > 0


@pytest.mark.usefixtures("on_disk")
def test_cold_reads_of_ours_are_what_the_loader_asked_for(whole: Settings) -> None:
    windows = cold_read("pytorch", replace(whole, oversampling=0.0))
    assert windows.asked_bytes_per_image
    # The first read of a file, of its header, brings up to 128 KiB more.
    most = windows.asked_bytes_per_image + 2 * (128 << 10)
    assert windows.asked_bytes_per_image * 0.8 < windows.bytes_per_image < most
    biased = cold_read("pytorch", replace(whole, oversampling=1.0))
    label = 40 * 72 * 72
    assert biased.asked_bytes_per_image
    asked_for_labels = biased.asked_bytes_per_image - windows.asked_bytes_per_image
    assert asked_for_labels == pytest.approx(label, abs=64 * mmap.PAGESIZE)
    assert biased.bytes_per_image > windows.bytes_per_image


@pytest.mark.usefixtures("on_disk")
def test_a_reader_of_whole_files_reads_them_once(whole: Settings) -> None:
    if missing := CONTENDERS["reference"].missing(whole):
        pytest.skip(f"no checkout of the reference at .work/reference: {missing}")
    cold = cold_read("reference", whole)
    assert cold.bytes_per_image == 40 * 72 * 72 * 5 + 2 * 128


def test_what_is_missing_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contender, "find_spec", lambda module: None)
    peers = "not installed: pip install --no-deps -r requirements-peers.txt"
    assert CONTENDERS["monai"].missing(settings) == peers
    assert CONTENDERS["nnunet"].missing(settings) == peers
    assert CONTENDERS["dali-classic"].missing(settings) == "not installed: pip install -r requirements.txt"
    assert CONTENDERS["reference"].missing(replace(settings, reference_dir=None)) == "needs --reference_dir"
    assert CONTENDERS["pytorch"].missing(settings) is None


def test_a_module_of_a_package_that_is_not_there() -> None:
    assert not_installed("no_such_package.module")


def test_a_checkout_is_found_from_its_root_or_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "retired_benchmarks" / "unet3d" / "pytorch"
    (folder / "data_loading").mkdir(parents=True)
    assert find_reference(tmp_path) is None
    (folder / "data_loading" / "pytorch_loader.py").touch()
    assert find_reference(tmp_path) == find_reference(folder) == folder


def test_settings_travel_as_text(settings: Settings) -> None:
    for sent in (settings, replace(settings, reference_dir=None, one_pass=True)):
        assert Settings.from_json(sent.to_json()) == sent
