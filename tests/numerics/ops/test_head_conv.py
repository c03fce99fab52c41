"""`head_conv` against PyTorch's convolution."""

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.ops.head_conv import LAUNCHES, head_conv
from tests.numerics.ops.kernels import BACKENDS, DEVICES, FORMATS, KERNELS, LAST, nan_where_unwritten

SHAPES = [(1, 1, 1, 1, 1, 1), (3, 5, 2, 2, 1, 3), (1, 32, 3, 7, 6, 8), (2, 130, 16, 3, 5, 4)]
"""N, Ci, K, D, H, W."""


@pytest.fixture(autouse=True)
def _plain_float32() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def arguments(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    weight_dtype: torch.dtype,
    layout: torch.memory_format = LAST,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Leaves x, weight and bias. The layout is that of x and weight."""
    n, ci, k, *volume = shape
    leaves = {
        "x": torch.randn(n, ci, *volume, dtype=torch.float64).to(dtype).contiguous(memory_format=layout),
        "weight": torch.randn(k, ci, 1, 1, 1, dtype=weight_dtype).contiguous(memory_format=layout),
        "bias": torch.randn(k, dtype=weight_dtype),
    }
    return {name: leaf.to(device).requires_grad_() for name, leaf in leaves.items()}


def native(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv3d(x, weight.to(x.dtype), bias.to(x.dtype))


def with_gradients(logits: Tensor, dlogits: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    grads = torch.autograd.grad(logits, list(leaves.values()), dlogits)
    return {"logits": logits.detach(), **dict(zip(leaves, grads, strict=True))}


def assert_as_exact(found: dict[str, Tensor], peer: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    """Errors are at most twice the peer's, and float32's of sums that cancel: terms are about 1 here."""
    for name, truth in exact.items():
        error, peers = ((values[name].double() - truth).abs().max() for values in (found, peer))
        assert error <= 2 * peers + 1e-6 * (1 + truth.abs().max()), name


@pytest.mark.parametrize("layout", FORMATS)
def test_gradcheck(layout: torch.memory_format) -> None:
    leaves = arguments((2, 3, 2, 2, 1, 3), torch.float64, torch.float64, layout)
    assert torch.autograd.gradcheck(lambda *a: head_conv(*a, backend="reference"), tuple(leaves.values()))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_twin_is_pytorchs(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    leaves = arguments(shape, torch.float64, torch.float64, layout)
    logits = head_conv(**leaves, backend="reference")
    dlogits = torch.randn_like(logits)
    found = with_gradients(logits, dlogits, leaves)
    assert logits.is_contiguous(memory_format=LAST)
    for name in ("x", "weight"):
        assert found[name].stride() == leaves[name].stride()
    for name, value in with_gradients(native(**leaves), dlogits, leaves).items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("programs", [1, 1056], ids=["one chunk", "many chunks"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("device", "dtype"), KERNELS)
def test_kernels(
    device: str, dtype: torch.dtype, shape: tuple[int, ...], programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = pytest.importorskip("model.ops.head_conv.triton")
    monkeypatch.setattr(kernels, "PROGRAMS", programs)
    leaves = arguments(shape, dtype, torch.float32, device=device)
    dlogits = torch.randn_like(native(**leaves))
    with nan_where_unwritten():
        logits = head_conv(**leaves, backend="triton")
        found = with_gradients(logits, dlogits, leaves)
    assert (logits.dtype, logits.is_contiguous(memory_format=LAST)) == (dtype, True)
    for name, leaf in leaves.items():
        assert (found[name].dtype, found[name].stride()) == (leaf.dtype, leaf.stride())

    peer = with_gradients(native(**leaves), dlogits, leaves)
    twin = with_gradients(head_conv(**leaves, backend="reference"), dlogits, leaves)
    exactly = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    exact = with_gradients(native(**exactly), dlogits.double(), exactly)
    assert_as_exact(found, peer, exact)
    assert_as_exact(twin, peer, exact)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_a_master_weight_is_rounded_as_autocast_would(backend: Any, device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((2, 9, 4, 2, 3, 2), torch.float16, torch.float32, device=device)
    rounded = leaves | {name: leaves[name].detach().half() for name in ("weight", "bias")}
    assert torch.equal(head_conv(**leaves, backend=backend), head_conv(**rounded, backend=backend))


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_autocast_changes_nothing(backend: Any, device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((1, 5, 3, 2, 1, 3), torch.float32, torch.float32, device=device)
    logits = head_conv(**leaves, backend=backend)
    dlogits = torch.randn_like(logits)
    plain = with_gradients(logits, dlogits, leaves)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = with_gradients(head_conv(**leaves, backend=backend), dlogits, leaves)
    for name, value in plain.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("device", DEVICES)
def test_two_runs_give_the_same_bits(device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((2, 8, 3, 5, 7, 6), torch.float16, torch.float32, device=device)
    dlogits = torch.randn(2, 3, 5, 7, 6, device=device, dtype=torch.float16)
    first, second = (with_gradients(head_conv(**leaves, backend="triton"), dlogits, leaves) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(second[name], value), name


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_any_layout_of_the_logits_gradient_will_do(backend: Any, device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((2, 3, 2, 2, 1, 3), torch.float32, torch.float32, device=device)
    for dlogits in (torch.ones(()).expand(2, 2, 2, 1, 3), torch.randn(2, 2, 3, 1, 2).transpose(2, 4)):
        dlogits = dlogits.to(device)
        found = with_gradients(head_conv(**leaves, backend=backend), dlogits, leaves)
        expected = with_gradients(native(**leaves), dlogits, leaves)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_custom_ops_keep_their_word(device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((2, 3, 4, 2, 1, 3), torch.float32, torch.float32, device=device)
    x, weight, bias = (leaf.detach() for leaf in leaves.values())
    dlogits = torch.randn(2, 4, 2, 1, 3, device=device).contiguous(memory_format=LAST)
    torch.library.opcheck(torch.ops.voxelrate.head_conv.default, (x, weight, bias))
    torch.library.opcheck(torch.ops.voxelrate.head_conv_backward.default, (dlogits, x, weight, bias.dtype))


def test_launches_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    if torch.cuda.is_available():
        pytest.skip("counts the interpreter's launches")
    launches, call = [], interpreter.GridExecutor.__call__
    monkeypatch.setattr(
        interpreter.GridExecutor, "__call__", lambda *a, **k: launches.append(a) or call(*a, **k)
    )
    leaves = arguments((1, 2, 3, 1, 2, 1), torch.float32, torch.float32)
    logits = head_conv(**leaves, backend="triton")
    assert len(launches) == LAUNCHES["voxelrate::head_conv"]
    with_gradients(logits, torch.ones_like(logits), leaves)
    assert len(launches) == sum(LAUNCHES.values())


def test_the_meta_device_needs_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model.ops.head_conv.triton", None)
    with torch.device("meta"):
        x = torch.empty(7, 32, 128, 128, 128, dtype=torch.bfloat16).to(memory_format=LAST).requires_grad_()
        weight = torch.empty(3, 32, 1, 1, 1).to(memory_format=LAST).requires_grad_()
        bias = torch.empty(3, requires_grad=True)
    logits = head_conv(x, weight, bias, backend="triton")
    assert (logits.shape, logits.dtype) == ((7, 3, 128, 128, 128), torch.bfloat16)
    assert logits.is_contiguous(memory_format=LAST)
    grads = torch.autograd.grad(logits, (x, weight, bias), torch.empty_like(logits))
    for grad, leaf in zip(grads, (x, weight, bias), strict=True):
        assert (grad.shape, grad.dtype, grad.stride()) == (leaf.shape, leaf.dtype, leaf.stride())


def fitting() -> dict[str, Any]:
    return {
        "x": torch.zeros(2, 5, 3, 4, 5).to(memory_format=LAST),
        "weight": torch.zeros(3, 5, 1, 1, 1),
        "bias": torch.zeros(3),
        "backend": "triton",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "native"}, "backend must be reference or triton, found 'native'"),
        ({"x": torch.zeros(2, 5, 3, 4)}, "x must be N x Ci x D x H x W"),
        ({"weight": torch.zeros(3, 4, 1, 1, 1)}, "weight K x Ci x 1 x 1 x 1"),
        ({"weight": torch.zeros(3, 5, 3, 3, 3)}, "weight K x Ci x 1 x 1 x 1"),
        ({"bias": torch.zeros(3, 1)}, "bias K"),
        ({"bias": torch.zeros(3, device="meta")}, "must be on one device"),
        ({"x": torch.zeros(2, 5, 3, 4, 5)}, "x must be contiguous in channels_last_3d"),
        ({"weight": torch.zeros(3, 10, 1, 1, 1)[:, ::2]}, "weight must be contiguous"),
        ({"bias": torch.zeros(3).double()}, "the kernels take float32, float16 and bfloat16"),
        ({"weight": torch.zeros(17, 5, 1, 1, 1), "bias": torch.zeros(17)}, "up to 16 classes, found 17"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head_conv(**fitting() | changes)


def test_kernels_want_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="need a CUDA device"):
        head_conv(**fitting())


def test_the_twin_takes_strided_arguments_and_many_classes() -> None:
    leaves = arguments((2, 6, 20, 2, 1, 4), torch.float64, torch.float64)
    x, weight, bias = (leaf.detach() for leaf in leaves.values())
    x, weight = x.flip(0)[:, ::2, ..., ::2], weight[:, 1::2]
    torch.testing.assert_close(head_conv(x, weight, bias, backend="reference"), F.conv3d(x, weight, bias))
