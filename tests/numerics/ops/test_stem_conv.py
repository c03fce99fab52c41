"""`stem_conv` against PyTorch's convolution."""

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.ops.stem_conv import LAUNCHES, stem_conv
from tests.numerics.ops.kernels import BACKENDS, CPU, CUDA, DEVICES, FORMATS, LAST, nan_where_unwritten

KERNELS = [
    pytest.param("cpu", torch.float32, torch.float32, marks=CPU),
    pytest.param("cpu", torch.float32, torch.float16, marks=CPU),
    pytest.param("cpu", torch.float16, torch.float16, marks=CPU),
    pytest.param("cuda", torch.float32, torch.float32, marks=CUDA),
    pytest.param("cuda", torch.float32, torch.float16, marks=CUDA),
    pytest.param("cuda", torch.float32, torch.bfloat16, marks=CUDA),
    pytest.param("cuda", torch.bfloat16, torch.bfloat16, marks=CUDA),
]
"""Device, dtype of the image, dtype of the result. The interpreter's bfloat16 arithmetic is wrong."""
SHAPES = [(1, 1, 1, 1, 1), (3, 5, 2, 1, 3), (1, 32, 7, 6, 8), (2, 67, 3, 5, 4)]
"""N, Co, D, H, W."""


@pytest.fixture(autouse=True)
def _plain_float32() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def arguments(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format = LAST, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """An image, and a weight that is float32 at least."""
    n, co, *volume = shape
    x = torch.randn(n, 1, *volume, dtype=torch.float64).to(dtype)
    weight = torch.randn(co, 1, 3, 3, 3, dtype=torch.promote_types(dtype, torch.float32))
    x, weight = (tensor.to(device).contiguous(memory_format=layout) for tensor in (x, weight))
    return x, weight.requires_grad_()


def native(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return F.conv3d(x.to(dtype), weight.to(dtype), padding=1)


def with_gradient(y: Tensor, dy: Tensor, weight: Tensor) -> dict[str, Tensor]:
    return {"y": y.detach(), "weight": torch.autograd.grad(y, weight, dy)[0]}


def assert_as_exact(found: dict[str, Tensor], peer: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    """Errors are at most twice the peer's, and float32's of sums that cancel: terms are about 1 here."""
    for name, truth in exact.items():
        error, peers = ((values[name].double() - truth).abs().max() for values in (found, peer))
        assert error <= 2 * peers + 1e-6 * (1 + truth.abs().max()), name


def test_gradcheck() -> None:
    x, weight = arguments((2, 3, 2, 1, 3), torch.float64)
    assert torch.autograd.gradcheck(lambda w: stem_conv(x, w, backend="reference"), weight)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_twin_is_pytorchs(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x, weight = arguments(shape, torch.float64, layout)
    y = stem_conv(x, weight, backend="reference")
    dy = torch.randn_like(y)
    found = with_gradient(y, dy, weight)
    assert y.is_contiguous(memory_format=LAST)
    assert found["weight"].stride() == weight.stride()
    for name, value in with_gradient(native(x, weight, x.dtype), dy, weight).items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("device", "dtype", "out_dtype"), KERNELS)
def test_kernels(
    device: str,
    dtype: torch.dtype,
    out_dtype: torch.dtype,
    shape: tuple[int, ...],
    layout: torch.memory_format,
) -> None:
    pytest.importorskip("triton")
    x, weight = arguments(shape, dtype, layout, device)
    dy = torch.randn(len(x), len(weight), *x.shape[2:], device=device).to(out_dtype)
    with nan_where_unwritten():
        y = stem_conv(x, weight, backend="triton", out_dtype=out_dtype)
        found = with_gradient(y, dy, weight)
    assert (y.dtype, y.is_contiguous(memory_format=LAST)) == (out_dtype, True)
    assert (found["weight"].dtype, found["weight"].stride()) == (torch.float32, weight.stride())

    peer = with_gradient(native(x, weight, out_dtype), dy, weight)
    twin = with_gradient(stem_conv(x, weight, backend="reference", out_dtype=out_dtype), dy, weight)
    exact_weight = weight.detach().double().requires_grad_()
    exact = with_gradient(native(x, exact_weight, torch.float64), dy.double(), exact_weight)
    assert_as_exact(found, peer, exact)
    assert_as_exact(twin, peer, exact)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_image_and_weight_are_rounded_as_autocast_would(backend: Any, device: str) -> None:
    pytest.importorskip("triton")
    x, weight = arguments((2, 4, 3, 4, 3), torch.float32, device=device)
    with torch.autocast(device, dtype=torch.float16):
        y = stem_conv(x, weight, backend=backend)
    assert y.dtype == torch.float16
    dy = torch.randn_like(y)
    found = with_gradient(y, dy, weight)
    rounded = weight.detach().half().requires_grad_()
    expected = with_gradient(stem_conv(x.half(), rounded, backend=backend), dy, rounded)
    assert torch.equal(found["y"], expected["y"])
    assert torch.equal(found["weight"].half(), expected["weight"])
    assert found["weight"].dtype == torch.float32


def test_the_twin_is_out_of_autocasts_reach() -> None:
    x, weight = arguments((1, 3, 2, 3, 2), torch.float32)
    y = stem_conv(x, weight, backend="reference", out_dtype=torch.float32)
    dy = torch.randn_like(y)
    plain = with_gradient(y, dy, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = stem_conv(x, weight, backend="reference", out_dtype=torch.float32)
        found = with_gradient(y, dy, weight)
    for name, value in plain.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("device", DEVICES)
def test_two_runs_give_the_same_bits(device: str) -> None:
    pytest.importorskip("triton")
    x, weight = arguments((2, 8, 5, 7, 6), torch.float32, device=device)
    dy = torch.randn(2, 8, 5, 7, 6, device=device, dtype=torch.float16)
    first, second = (
        with_gradient(stem_conv(x, weight, backend="triton", out_dtype=dy.dtype), dy, weight)
        for _ in range(2)
    )
    for name, value in first.items():
        assert torch.equal(second[name], value), name


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_any_layout_of_the_results_gradient_will_do(backend: Any, device: str) -> None:
    pytest.importorskip("triton")
    x, weight = arguments((2, 3, 2, 1, 3), torch.float32, device=device)
    for dy in (torch.ones(()).expand(2, 3, 2, 1, 3), torch.randn(2, 3, 3, 1, 2).transpose(2, 4)):
        dy = dy.to(device)
        found = with_gradient(stem_conv(x, weight, backend=backend), dy, weight)
        expected = with_gradient(native(x, weight, x.dtype), dy, weight)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_custom_ops_keep_their_word(device: str) -> None:
    pytest.importorskip("triton")
    x, weight = (tensor.detach() for tensor in arguments((2, 3, 2, 1, 3), torch.float32, device=device))
    dy = torch.randn(2, 3, 2, 1, 3, device=device).contiguous(memory_format=LAST)
    torch.library.opcheck(torch.ops.voxelrate.stem_conv.default, (x, weight, torch.float16))
    torch.library.opcheck(torch.ops.voxelrate.stem_conv_backward.default, (dy, x, weight))


def test_launches_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    if torch.cuda.is_available():
        pytest.skip("counts the interpreter's launches")
    launches, call = [], interpreter.GridExecutor.__call__
    monkeypatch.setattr(
        interpreter.GridExecutor, "__call__", lambda *a, **k: launches.append(a) or call(*a, **k)
    )
    x, weight = arguments((1, 2, 1, 2, 1), torch.float32)
    y = stem_conv(x, weight, backend="triton")
    assert len(launches) == LAUNCHES["voxelrate::stem_conv"]
    with_gradient(y, torch.ones_like(y), weight)
    assert len(launches) == sum(LAUNCHES.values())


def test_the_meta_device_needs_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model.ops.stem_conv.triton", None)
    x = torch.empty(7, 1, 128, 128, 128, device="meta")
    weight = torch.empty(32, 1, 3, 3, 3, device="meta").to(memory_format=LAST).requires_grad_()
    y = stem_conv(x, weight, backend="triton", out_dtype=torch.bfloat16)
    assert (y.shape, y.dtype) == ((7, 32, 128, 128, 128), torch.bfloat16)
    assert y.is_contiguous(memory_format=LAST)
    (grad,) = torch.autograd.grad(y, weight, torch.empty_like(y))
    assert (grad.shape, grad.dtype, grad.stride()) == (weight.shape, weight.dtype, weight.stride())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "native"}, "backend must be reference or triton, found 'native'"),
        ({"x": torch.zeros(2, 1, 3, 4, 5, requires_grad=True)}, "no gradient of its input"),
        ({"x": torch.zeros(2, 2, 3, 4, 5)}, "x must be N x 1 x D x H x W"),
        ({"weight": torch.zeros(4, 1, 1, 1, 1)}, "weight Co x 1 x 3 x 3 x 3"),
        ({"weight": torch.zeros(4, 1, 3, 3, 3, device="meta")}, "must be on one device"),
        ({"x": torch.zeros(2, 1, 3, 4, 10)[..., ::2]}, "x must be contiguous"),
        ({"weight": torch.zeros(4, 1, 3, 3, 3).mT}, "weight must be contiguous"),
        ({"x": torch.zeros(2, 1, 3, 4, 5).double()}, "the kernels take float32, float16 and bfloat16"),
        ({"out_dtype": torch.float64}, "the kernels take float32, float16 and bfloat16"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    fitting = {"x": torch.zeros(2, 1, 3, 4, 5), "weight": torch.zeros(4, 1, 3, 3, 3), "backend": "triton"}
    with pytest.raises(ValueError, match=message):
        stem_conv(**fitting | changes)  # type: ignore[arg-type]


def test_kernels_want_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="need a CUDA device"):
        stem_conv(*arguments((1, 2, 1, 2, 1), torch.float32), backend="triton")


def test_the_twin_takes_strided_arguments() -> None:
    x, weight = (tensor.detach() for tensor in arguments((2, 3, 2, 5, 4), torch.float64))
    x, weight = x.flip(0)[..., ::2], weight.mT
    torch.testing.assert_close(stem_conv(x, weight, backend="reference"), F.conv3d(x, weight, padding=1))
