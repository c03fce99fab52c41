"""The fused norm between its neighbours: the joined tensor, gradients as they arrive, strides, autocast."""

from typing import Any

import pytest
import torch
from torch import Tensor

from model.ops.instance_norm_relu import instance_norm_relu, instance_norm_relu_joined, normalize, reference
from tests.numerics.ops.test_instance_norm_relu import (
    BACKENDS,
    PATHS,
    affine,
    assert_as_good_as_native,
    leaves,
    native,
    results,
    volume,
)

SHAPE = (2, 3, 3, 5, 2)


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:
        return None


class _FillFirstHalf(torch.autograd.Function):
    """As the decoder does: writes into the joined tensor. The gradient of what it wrote over is nobody's."""

    @staticmethod
    def forward(ctx: Any, joined: Tensor, value: Tensor) -> Tensor:
        ctx.mark_dirty(joined)
        joined[:, : value.shape[1]].copy_(value)
        ctx.channels = value.shape[1]
        return joined

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        of_joined = gradient.clone()
        of_joined[:, : ctx.channels] = torch.nan
        return of_joined, gradient[:, : ctx.channels]


@pytest.mark.parametrize(("backend", "device", "dtype"), PATHS)
def test_the_joined_tensor_is_filled_in_place_and_both_gradients_are_summed(
    backend: str, device: str, dtype: torch.dtype
) -> None:
    x, dy = (volume(*SHAPE, dtype=dtype, device=device) for _ in range(2))
    upsampled = volume(*SHAPE, dtype=dtype, device=device).requires_grad_()
    djoined = volume(2, 6, *SHAPE[2:], dtype=dtype, device=device)
    inputs = leaves(x, *affine(3, device))
    y, joined, mean, rstd = instance_norm_relu_joined(*inputs, backend=backend, with_statistics=True)
    assert torch.equal(joined[:, 3:], y)
    assert joined.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(y, normalize(x, mean, rstd, *inputs[1:], negative_slope=0.0, backend=backend))
    joined = _FillFirstHalf.apply(joined, upsampled)
    assert torch.equal(joined, torch.cat((upsampled, y), dim=1))
    found = torch.autograd.grad((y, joined), (*inputs, upsampled), (dy, djoined))
    assert torch.equal(found[3], djoined[:, :3])
    # The sum is wider than either: against float64 of the unrounded sum.
    total = dy.double() + djoined[:, 3:].double()
    exact_inputs = leaves(*inputs, dtype=torch.float64)
    exact = results(native(*exact_inputs), total, exact_inputs)
    own_inputs = leaves(*inputs, dtype=dtype)
    own = results(native(*own_inputs), (dy + djoined[:, 3:]), own_inputs)
    for f, e, o in zip(found[:3], exact[1:], own[1:], strict=True):
        scale = e.abs().max()
        assert (f - e).abs().max() <= 2 * (o - e).abs().max() + 1e-6 * scale


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_a_missing_gradient_is_zero_and_is_not_made(backend: str, device: str) -> None:
    x, dy, djoined = (
        volume(*SHAPE, device=device),
        volume(*SHAPE, device=device),
        volume(2, 6, 3, 5, 2, device=device),
    )
    inputs = leaves(x, *affine(3, device))
    y, joined = instance_norm_relu_joined(*inputs, backend=backend)
    found = torch.autograd.grad(joined, inputs, djoined, retain_graph=True)
    assert_as_good_as_native([y.detach(), *found], *inputs, djoined[:, 3:].contiguous())
    found = torch.autograd.grad(y, inputs, dy, retain_graph=True)
    assert_as_good_as_native([y.detach(), *found], *inputs, dy)
    assert torch.autograd.grad(_NoGradient.apply(y), inputs, dy, allow_unused=True) == (None,) * 3


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_a_gradient_in_any_layout(backend: str, device: str) -> None:
    inputs = leaves(volume(*SHAPE, device=device), *affine(3, device))
    y = instance_norm_relu(*inputs, backend=backend)
    wide = volume(2, 9, 3, 5, 2, device=device)
    for dy in (
        torch.randn(SHAPE, device=device),
        wide[:, 2:5],
        torch.randn(2, 3, 3, 2, 5, device=device).transpose(3, 4),
        torch.ones((), device=device).expand(SHAPE),
    ):
        found = torch.autograd.grad(y, inputs, dy, retain_graph=True)
        assert_as_good_as_native([y.detach(), *found], *inputs, dy)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_a_slice_of_channels_as_input(backend: str, device: str) -> None:
    wide, dy = volume(2, 9, 3, 5, 2, device=device), volume(*SHAPE, device=device)
    x, weight, bias = wide[:, 5:8], *affine(3, device)
    y = instance_norm_relu(x, weight, bias, backend=backend)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(
        y,
        instance_norm_relu(x.contiguous(memory_format=torch.channels_last_3d), weight, bias, backend=backend),
    )
    wide.requires_grad_()
    found = torch.autograd.grad(instance_norm_relu(wide[:, 5:8], weight, bias, backend=backend), wide, dy)[0]
    inputs = leaves(x, weight, bias)
    expected = torch.autograd.grad(instance_norm_relu(*inputs, backend=backend), inputs[0], dy)[0]
    assert torch.equal(found[:, 5:8], expected)
    assert not found[:, :5].any()


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_one_channel_in_either_layout(backend: str, device: str) -> None:
    inputs, dy = (
        (torch.randn(2, 1, 3, 4, 5, device=device), *affine(1, device)),
        torch.randn(2, 1, 3, 4, 5, device=device),
    )
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        x = torch.empty_like(inputs[0], memory_format=memory_format).copy_(inputs[0])
        mine = leaves(x, *inputs[1:])
        y, joined = instance_norm_relu_joined(*mine, backend=backend)
        assert torch.equal(joined[:, 1:], y)
        assert joined.is_contiguous(memory_format=memory_format) or backend == "triton"
        assert_as_good_as_native(results(y, dy, mine), *inputs, dy)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_autocast_changes_nothing(backend: str, device: str, dtype: torch.dtype) -> None:
    inputs = leaves(volume(*SHAPE, dtype=dtype, device=device), *affine(3, device))
    dy = volume(*SHAPE, dtype=dtype, device=device)
    expected = results(instance_norm_relu(*inputs, backend=backend), dy, inputs)
    with torch.autocast(device, dtype=dtype):
        y, mean, rstd = instance_norm_relu(*inputs, backend=backend, with_statistics=True)
        found = results(y, dy, inputs)
    assert y.dtype == dtype
    assert mean.dtype == rstd.dtype == found[2].dtype == torch.float32
    assert all(torch.equal(f, e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_parameters_of_other_dtypes(backend: str, device: str) -> None:
    x, dy = (volume(*SHAPE, device=device) for _ in range(2))
    inputs = [*leaves(x), *leaves(affine(3, device)[0], dtype=torch.float16), *leaves(affine(3, device)[1])]
    y = instance_norm_relu(*inputs, backend=backend)
    _, dx, dweight, dbias = results(y, dy, inputs)
    assert (y.dtype, dx.dtype, dweight.dtype, dbias.dtype) == (x.dtype, x.dtype, torch.float16, torch.float32)
    exact_inputs = leaves(*inputs, dtype=torch.float64)
    expected = results(native(*exact_inputs), dy.double(), exact_inputs)
    torch.testing.assert_close(dx.double(), expected[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dweight.double(), expected[2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_what_is_kept_for_the_backward_and_that_there_is_one_only(backend: str, device: str) -> None:
    inputs, kept = leaves(volume(*SHAPE, device=device), *affine(3, device)), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda t: t):
        y, joined, mean, rstd = instance_norm_relu_joined(*inputs, backend=backend, with_statistics=True)
    expected = [inputs[0], mean, rstd, *inputs[1:]]
    assert [tensor.data_ptr() for tensor in kept] == [tensor.data_ptr() for tensor in expected]
    dy = torch.ones_like(y, requires_grad=True)
    (dx,) = torch.autograd.grad(y, inputs[0], dy, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_the_twin_keeps_the_layout(memory_format: torch.memory_format) -> None:
    x = torch.randn(SHAPE).contiguous(memory_format=memory_format).requires_grad_()
    y, joined = instance_norm_relu_joined(x, *affine(3), backend="reference")
    (y.sum() + joined[:, 3:].sum()).backward()
    assert x.grad is not None
    for tensor in (y, joined, x.grad):
        assert tensor.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_bad_arguments(backend: str) -> None:
    x, (weight, bias) = volume(2, 3, 2, 2, 2), affine(3)
    for bad, message in (
        ((x[:, :, :1, :1, :1], weight, bias), "more than one voxel"),
        ((x[:0], weight, bias), "more than one voxel"),
        ((x[0], weight, bias), "N x C x D x H x W"),
        ((x.int(), weight, bias), "floating dtype"),
        ((x, weight[:2], bias), "weight must hold x's 3 channels"),
        ((x, weight, bias.to("meta")), "bias must hold x's 3 channels in a floating dtype on cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            instance_norm_relu(*bad, backend=backend)
    with pytest.raises(ValueError, match="backend must be reference or triton, found 'native'"):
        instance_norm_relu_joined(x, weight, bias, backend="native")


def test_what_the_kernels_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    x, (weight, bias) = volume(2, 3, 4, 2, 2), affine(3)
    for bad in (x.contiguous(), x.double(), x.transpose(3, 4), x[:, :, ::2], x[:, ::2]):
        with pytest.raises(ValueError, match="backend triton takes float32, float16 or bfloat16"):
            instance_norm_relu(bad, weight[: bad.shape[1]], bias[: bad.shape[1]], backend="triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(
        ValueError, match="backend triton cannot run on cpu: Triton's kernels need a CUDA device"
    ):
        instance_norm_relu(x, weight, bias, backend="triton")


@pytest.mark.parametrize(("backend", "device", "dtype"), PATHS)
def test_every_element_is_written_and_nothing_beside(backend: str, device: str, dtype: torch.dtype) -> None:
    if backend == "triton":
        from model.ops.instance_norm_relu import launch as computed
    else:
        computed = reference  # type: ignore[assignment]
    x, dy, dskip, out, copy, dx = (volume(2, 8, 3, 5, 7, dtype=dtype, device=device) for _ in range(6))
    for target in (out, copy, dx):
        target.fill_(torch.nan)
    inside = (slice(None), slice(1, 6))
    weight, bias = affine(5, device)
    mean, rstd = computed.forward(x[inside], weight, bias, 1e-5, 0.1, out[inside], copy[inside])
    saved = (x[inside], mean, rstd, weight, bias, 0.1)
    dweight, dbias = computed.backward(dy[inside], dskip[inside], *saved, dx[inside])
    assert torch.equal(out[inside], copy[inside])
    again = torch.full_like(out, torch.nan)
    computed.normalize(*saved, again[inside])
    assert torch.equal(again[inside], out[inside])
    for target in (out, copy, dx, again):
        assert target[:, :1].isnan().all()
        assert target[:, 6:].isnan().all()
    total = dy[inside].double() + dskip[inside].double()
    if dtype == torch.float32:
        found = [out[inside], dx[inside], dweight, dbias]
        assert_as_good_as_native(found, x[inside], weight, bias, total, slope=0.1)
    assert not dx[inside].isnan().any()
