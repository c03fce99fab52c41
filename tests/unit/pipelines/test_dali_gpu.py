"""``--loader dali`` on a CUDA device: the same samples as the plain definition, but for DALI's own noise."""

import itertools
from dataclasses import replace

import pytest
import torch

from pipelines.base import Batch, Position
from pipelines.data_loader import LoaderConfig, build
from tests.unit.pipelines.loaders import ONE, naive, take

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FRONTS = {
    "none": {}, "host": {"data_cache": "host"}, "device": {"data_cache": "device"},
    "device-fp16": {"data_cache": "device", "cache_dtype": "float16"}, "file": {"reader": "file"},
    "cpu": {"dali_device": "cpu"},
}  # fmt: skip


def gpu_config(config: LoaderConfig, name: str, **changes: object) -> LoaderConfig:
    pytest.importorskip("nvidia.dali")
    return replace(config, **({"loader": "dali", "num_workers": 2} | FRONTS[name] | changes))  # type: ignore[arg-type]


def on_host(batches: list[Batch]) -> list[Batch]:
    return [Batch(batch.image.float().cpu(), batch.label.cpu()) for batch in batches]


def assert_equal_but_for_noise(found: list[Batch], truth: list[Batch], tolerance: float = 0.0) -> None:
    noisy = 0
    for mine, theirs in zip(found, truth, strict=True):
        assert torch.equal(mine.label, theirs.label)
        for image, expected in zip(mine.image, theirs.image, strict=True):
            difference = (image - expected).abs()
            if difference.max() > tolerance + 1e-6:
                noisy += 1
                assert difference.std() < 0.1 * 2**0.5 * 1.1
    assert 0 < noisy <= len(found) * len(found[0].image) // 3


@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize("layout", ["NCDHW", "NDHWC"])
def test_samples_are_right_while_the_device_lags_behind(config: LoaderConfig, name: str, layout: str) -> None:
    loader = build(gpu_config(config, name, layout=layout), ONE, torch.device("cuda", 0))
    kept, places = [], set()
    for batch in itertools.islice(loader, 30):
        torch.cuda._sleep(20_000_000)
        places.add(batch.image.data_ptr())
        kept.append(Batch(batch.image.clone(), batch.label.clone()))
    loader.close()
    assert len(places) == 2, "a CUDA graph can rely on the addresses"
    tolerance = 0.01 if name == "device-fp16" else 0.0
    if name == "cpu":
        for mine, theirs in zip(on_host(kept), naive(config, 30), strict=True):
            assert torch.equal(mine.image, theirs.image)
    else:
        assert_equal_but_for_noise(on_host(kept), naive(config, 30), tolerance)


@pytest.mark.parametrize("name", FRONTS)
def test_a_restart_continues_noise_included(config: LoaderConfig, name: str) -> None:
    device = torch.device("cuda", 0)
    whole = take(gpu_config(config, name), 12, device=device)
    resumed = take(gpu_config(config, name), 8, start=Position(2, 1), device=device)
    for mine, theirs in zip(resumed, whole[4:], strict=True):
        assert torch.equal(mine.image, theirs.image)
        assert torch.equal(mine.label, theirs.label)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_arrive_in_the_static_buffers(config: LoaderConfig, dtype: str) -> None:
    settings = gpu_config(config, "device", image_dtype=dtype, layout="NDHWC")
    found = take(settings, 12, device=torch.device("cuda", 0))
    assert {batch.image.dtype for batch in found} == {getattr(torch, dtype)}
    assert all(batch.image.is_contiguous(memory_format=torch.channels_last_3d) for batch in found)
    assert_equal_but_for_noise(on_host(found), naive(config, 12), tolerance=0.04)
