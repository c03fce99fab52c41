"""Sliding windows against their definition, voxel by voxel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.unet3d import Unet3D
from pipelines.slots import Layout, with_layout
from pipelines.windows import WindowPlan, count_windows, crop_margins, pad_margins
from runtime.inference import sliding_window_inference

LAST = torch.channels_last_3d


def two_classes(v: Tensor) -> Tensor:
    """A network that sees where in the window it is."""
    ramp = torch.linspace(0, 1, v.shape[-1])
    return torch.cat((v * ramp, torch.sin(v) + ramp), dim=1)


def by_definition(volume: Tensor, window: tuple[int, int, int], overlap: float, mode: str) -> np.ndarray:
    """A float64 loop over windows of a volume that needs neither crop nor pad on the inside."""
    strides = [int(w * (1 - overlap)) for w in window]
    crops = [crop_margins(*axis) for axis in zip(volume.shape[2:], strides, window, strict=True)]
    inside = [slice(low, s - high) for (low, high), s in zip(crops, volume.shape[2:], strict=True)]
    volume = volume[:, :, *inside].double()
    pads = [pad_margins(*axis) for axis in zip(volume.shape[2:], strides, window, strict=True)]
    padded = np.pad(volume.numpy(), [(0, 0), (0, 0), *pads], constant_values=-2.2)
    offsets = np.meshgrid(*(np.arange(w) - (w - 1) / 2 for w in window), indexing="ij")
    exponent = sum((o / (0.125 * w)) ** 2 for o, w in zip(offsets, window, strict=True))
    weight = np.cbrt(np.exp(-0.5 * exponent)) if mode == "gaussian" else np.ones(window)
    result, total = np.zeros((1, 2, *padded.shape[2:])), np.zeros(padded.shape[2:])
    for z in range(0, padded.shape[2] - window[0] + 1, strides[0]):
        for y in range(0, padded.shape[3] - window[1] + 1, strides[1]):
            for x in range(0, padded.shape[4] - window[2] + 1, strides[2]):
                place = np.s_[z : z + window[0], y : y + window[1], x : x + window[2]]
                patch = torch.from_numpy(padded[(0, 0, *place)][None, None])
                result[(0, slice(None), *place)] += two_classes(patch).numpy()[0] * weight
                total[place] += weight
    back = [slice(low, low + s) for (low, _), s in zip(pads, volume.shape[2:], strict=True)]
    return (result / total)[:, :, *back]


sizes = st.integers(5, 40)


@settings(max_examples=40)
@given(
    st.tuples(sizes, sizes, sizes),
    st.sampled_from([(8, 8, 8), (16, 8, 12), (10, 16, 8)]),
    st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    st.sampled_from(["gaussian", "constant"]),
    st.sampled_from([1, 3, 50]),
)
def test_equals_the_definition(
    shape: tuple[int, int, int], window: tuple[int, int, int], overlap: float, mode: str, batch_size: int
) -> None:
    volume = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(sum(shape)))
    label = torch.zeros_like(volume, dtype=torch.uint8)
    result, label = sliding_window_inference(
        volume, label, window, two_classes, overlap, mode, batch_size=batch_size
    )
    expected = by_definition(volume, window, overlap, mode)
    assert result.shape[2:] == label.shape[2:] == expected.shape[2:]
    assert not np.isnan(expected).any()
    np.testing.assert_allclose(result, expected, atol=1e-5)


@given(st.tuples(sizes, sizes, sizes), st.sampled_from([0.0, 0.5, 0.7]), st.sampled_from([1, 2, 5]))
def test_every_window_is_run_once_in_full_batches_but_the_last(
    shape: tuple[int, int, int], overlap: float, batch_size: int
) -> None:
    batches: list[Tensor] = []

    def network(v: Tensor) -> Tensor:
        batches.append(v)
        return v

    # A voxel's value is its number, so a window is told by its first.
    volume = torch.arange(float(np.prod(shape))).view(1, 1, *shape)
    sliding_window_inference(volume, volume, (16, 8, 8), network, overlap, batch_size=batch_size)
    one_by_one = [window for batch in batches for window in batch]
    assert count_windows(shape, (16, 8, 8), overlap) == len(one_by_one)
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    assert 1 <= len(batches[-1]) <= batch_size

    plan = WindowPlan.of(shape, (16, 8, 8), overlap)
    padded = np.pad(volume[0, 0].numpy()[plan.kept], plan.padding, constant_values=-2.2)
    for window, (z, y, x) in zip(one_by_one, plan.starts, strict=True):
        np.testing.assert_array_equal(window[0], padded[z : z + 16, y : y + 8, x : x + 8])


@pytest.mark.parametrize("layout", ["NCDHW", "NDHWC"])
def test_the_batch_size_changes_nothing(layout: Layout) -> None:
    model = Unet3D(1, 3, filters=(4, 8)).double().eval()
    if layout == "NDHWC":
        model.to(memory_format=LAST)  # type: ignore[call-overload]
    volume = with_layout(torch.randn(1, 1, 21, 27, 30, dtype=torch.float64), layout)
    label = torch.zeros_like(volume, dtype=torch.uint8)
    sizes: list[int] = []

    def noted(v: Tensor) -> Tensor:
        sizes.append(len(v))
        return model(v)

    found = [
        sliding_window_inference(volume, label, (16, 16, 16), noted, batch_size=batch_size)[0]
        for batch_size in (1, 2, 5)
    ]
    assert sizes == [1] * 12 + [2] * 6 + [5, 5, 2]
    for result in found[1:]:
        # A logit is float64 and its sum float32: no more than a rounding may come out differently.
        torch.testing.assert_close(result, found[0], rtol=2**-22, atol=2**-24)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("layout", ["NCDHW", "NDHWC"])
def test_windows_have_the_volumes_memory_format(layout: Layout, channels: int, batch_size: int) -> None:
    """With one channel the strides alone tell, so a network in NDHWC would not know."""
    volume = torch.randn(1, channels, 20, 17, 24)
    if channels > 1 and layout == "NDHWC":
        volume = volume.contiguous(memory_format=LAST)
    elif channels == 1:
        volume = with_layout(volume, layout)
    seen: list[Tensor] = []

    def network(v: Tensor) -> Tensor:
        seen.append(v)
        return v

    for cut in (volume, volume[:, :, :16, :16, :16]):  # with and without a padded copy
        sliding_window_inference(cut, cut[:, :1], (16, 8, 8), network, batch_size=batch_size)
    for windows in seen:
        last, (n, c, *_) = layout == "NDHWC", windows.shape
        expected = (c * 1024, 1, 64 * c, 8 * c, c) if last else (c * 1024, 1024, 64, 8, 1)
        assert windows.stride() == expected, n


@pytest.mark.parametrize("ours", [torch.contiguous_format, LAST])
def test_a_network_in_ndhwc_keeps_it_for_a_batch_of_windows(ours: torch.memory_format) -> None:
    conv = torch.nn.Conv3d(1, 4, 3, padding=1).to(memory_format=ours)  # type: ignore[call-overload]
    formats: list[bool] = []

    def network(v: Tensor) -> Tensor:
        y = conv(v)
        formats.append(y.is_contiguous(memory_format=LAST))
        return y

    volume = with_layout(torch.randn(1, 1, 24, 24, 24), "NDHWC" if ours == LAST else "NCDHW")
    result, label = sliding_window_inference(volume, volume, (16, 16, 16), network, batch_size=4)
    assert formats == [ours == LAST] * 2
    assert result.is_contiguous()
    assert label.is_contiguous()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "median"}, "gaussian or constant"),
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"backend": "native"}, "backend must be reference or triton"),
    ],
)
def test_wrong_arguments(changes: dict[str, object], message: str) -> None:
    volume = torch.zeros(1, 1, 8, 8, 8)
    with pytest.raises(ValueError, match=message):
        sliding_window_inference(volume, volume, (8, 8, 8), two_classes, **changes)  # type: ignore[arg-type]


def test_a_batch_of_volumes_is_refused() -> None:
    volume = torch.zeros(2, 1, 8, 8, 8)
    with pytest.raises(ValueError, match="one volume"):
        sliding_window_inference(volume, volume, (8, 8, 8), two_classes)


def test_low_precision_windows_are_accumulated_in_float32() -> None:
    volume = torch.rand(1, 1, 24, 24, 24)
    result, _ = sliding_window_inference(volume, volume, (16, 16, 16), lambda v: two_classes(v).bfloat16())
    assert result.dtype == torch.float32
    # One rounding of a logit to bfloat16 each, and no accumulated one.
    np.testing.assert_allclose(
        result, by_definition(volume, (16, 16, 16), 0.5, "gaussian"), rtol=2**-8, atol=2**-8
    )


def test_the_kernel_adds_up_as_its_twin_does() -> None:
    pytest.importorskip("triton")
    volume = torch.randn(1, 1, 21, 27, 30)
    with torch.inference_mode():
        expected, found = (
            sliding_window_inference(
                volume, volume, (16, 16, 16), two_classes, batch_size=3, backend=backend
            )[0]
            for backend in ("reference", "triton")
        )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
