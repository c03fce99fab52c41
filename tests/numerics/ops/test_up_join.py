"""`up_join` against PyTorch's transposed convolution and concatenation."""

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.ops.up_join import LAUNCHES, reference, up_join
from tests.numerics.ops.kernels import BACKENDS, DEVICES, FORMATS, KERNELS, LAST, nan_where_unwritten

SHAPES = [(1, 1, 1, 1, 1, 1), (3, 17, 5, 2, 3, 1), (1, 3, 16, 4, 7, 6), (2, 40, 32, 3, 2, 5)]
"""N, Ci, Co, D, H, W."""


@pytest.fixture(autouse=True)
def _plain_float32() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class NormLike(torch.autograd.Function):
    """An operation whose second output is the buffer, as the fused norm's: y, and y in a half of NaN."""

    @staticmethod
    def forward(ctx: Any, skip: Tensor, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
        n, c, *volume = skip.shape
        joined = torch.empty((n, 2 * c, *volume), dtype=skip.dtype, device=skip.device, memory_format=layout)
        joined[:, :c] = torch.nan
        joined[:, c:] = 2 * skip
        return 2 * skip, joined

    @staticmethod
    def backward(ctx: Any, dy: Tensor, djoined: Tensor) -> tuple[Tensor, None]:
        return 2 * (dy + djoined[:, dy.shape[1] :]), None


def arguments(
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    weight_dtype: torch.dtype = torch.float64,
    layout: torch.memory_format = LAST,
    device: str = "cpu",
) -> dict[str, Tensor]:
    """Leaves x, weight, bias and skip. The layout is that of x and weight."""
    n, ci, co, *volume = shape
    size, kernel = (n, ci, *volume), (ci, co, 2, 2, 2)
    leaves = {
        "x": torch.randn(size, dtype=torch.float64).to(dtype).contiguous(memory_format=layout),
        "weight": torch.randn(kernel, dtype=torch.float64).to(weight_dtype).contiguous(memory_format=layout),
        "bias": torch.randn(co, dtype=torch.float64).to(weight_dtype),
        "skip": torch.randn(n, co, *(2 * edge for edge in volume), dtype=torch.float64).to(dtype),
    }
    return {name: leaf.to(device).requires_grad_() for name, leaf in leaves.items()}


def native(x: Tensor, weight: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    y = F.conv_transpose3d(x, weight.to(x.dtype), bias.to(x.dtype), stride=2)
    return torch.cat((y, 2 * skip), dim=1)


def fused(backend: str, layout: torch.memory_format = LAST, **leaves: Tensor) -> Tensor:
    _, joined = NormLike.apply(leaves.pop("skip"), layout)
    result = up_join(**leaves, joined=joined, backend=backend)  # type: ignore[arg-type]
    assert result is joined
    return result


def with_gradients(result: Tensor, dcat: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    grads = torch.autograd.grad(result, list(leaves.values()), dcat)
    return {"result": result.detach(), **dict(zip(leaves, grads, strict=True))}


def assert_as_exact(found: dict[str, Tensor], peer: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    """Errors are at most twice the peer's, and float32's of sums that cancel: terms are about 1 here."""
    for name, truth in exact.items():
        error, peers = ((values[name].double() - truth).abs().max() for values in (found, peer))
        assert error <= 2 * peers + 1e-6 * (1 + truth.abs().max()), name


@pytest.mark.parametrize("layout", FORMATS)
def test_gradcheck_between_a_norm_and_a_convolution(layout: torch.memory_format) -> None:
    leaves = arguments((2, 3, 2, 1, 2, 2), layout=layout)
    conv = torch.randn(1, 4, 3, 3, 3, dtype=torch.float64, requires_grad=True)

    def block(x: Tensor, weight: Tensor, bias: Tensor, skip: Tensor, conv: Tensor) -> tuple[Tensor, Tensor]:
        y, joined = NormLike.apply(skip, layout)
        deeper = y.square()  # saves y before the buffer is written to
        return F.conv3d(up_join(x, weight, bias, joined, backend="reference"), conv, padding=1), deeper

    assert torch.autograd.gradcheck(block, (*leaves.values(), conv))


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_twin_is_pytorchs(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    leaves = arguments(shape, layout=layout)
    result = fused("reference", layout, **leaves)
    dcat = torch.randn_like(result)
    found = with_gradients(result, dcat, leaves)
    expected = with_gradients(native(**leaves), dcat, leaves)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)
    for name in ("x", "weight"):
        assert found[name].stride() == leaves[name].stride()


@pytest.mark.parametrize("programs", [1, 264], ids=["large blocks", "many chunks"])
@pytest.mark.parametrize("weight_layout", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("device", "dtype"), KERNELS)
def test_kernels(
    device: str,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    weight_layout: torch.memory_format,
    programs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch = pytest.importorskip("model.ops.up_join.launch")
    monkeypatch.setattr(launch, "PROGRAMS", programs)
    leaves = arguments(shape, dtype, torch.float32, device=device)
    leaves["weight"] = leaves["weight"].detach().contiguous(memory_format=weight_layout).requires_grad_()
    dcat = torch.randn_like(native(**leaves))
    with nan_where_unwritten():
        found = with_gradients(fused("triton", **leaves), dcat, leaves)
    for name, leaf in leaves.items():
        assert found[name].dtype == leaf.dtype
    assert found["weight"].stride() == leaves["weight"].stride()
    assert found["x"].is_contiguous(memory_format=LAST)

    peer = with_gradients(native(**leaves), dcat, leaves)
    twin = with_gradients(fused("reference", **leaves), dcat, leaves)
    exactly = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    exact = with_gradients(native(**exactly), dcat.double(), exactly)
    assert_as_exact(found, peer, exact)
    assert_as_exact(twin, peer, exact)


@pytest.mark.parametrize(("device", "dtype"), KERNELS)
def test_a_master_weight_is_rounded_as_autocast_would(device: str, dtype: torch.dtype) -> None:
    pytest.importorskip("triton")
    leaves = arguments((2, 9, 4, 2, 3, 2), dtype, torch.float32, device=device)
    rounded = leaves | {name: leaves[name].detach().to(dtype) for name in ("weight", "bias")}
    for backend in ("reference", "triton"):
        assert torch.equal(fused(backend, **leaves), fused(backend, **rounded))


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_autocast_changes_nothing(backend: str, device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((1, 5, 3, 2, 1, 3), torch.float32, torch.float32, device=device)
    result = fused(backend, **leaves)
    dcat = torch.randn_like(result)
    plain = with_gradients(result, dcat, leaves)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = with_gradients(fused(backend, **leaves), dcat, leaves)
    for name, value in plain.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("device", DEVICES)
def test_two_runs_give_the_same_bits(device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((2, 24, 8, 5, 4, 5), torch.float16, torch.float32, device=device)
    dcat = torch.randn_like(native(**leaves))
    first, second = (with_gradients(fused("triton", **leaves), dcat, leaves) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(second[name], value), name


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_any_layout_of_the_results_gradient_will_do(backend: str, device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((2, 3, 4, 2, 1, 3), torch.float32, torch.float32, device=device)
    gradient = torch.ones((), device=device).expand(native(**leaves).shape)
    found = with_gradients(fused(backend, **leaves), gradient, leaves)
    expected = with_gradients(native(**leaves), gradient, leaves)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_the_buffers_gradient_is_the_results_itself(backend: str, device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((1, 2, 3, 1, 2, 1), torch.float32, torch.float32, device=device)
    del leaves["skip"]
    buffer = torch.zeros(1, 6, 2, 4, 2, device=device).to(memory_format=LAST).requires_grad_()
    result = up_join(**leaves, joined=buffer.clone(), backend=backend)  # type: ignore[arg-type]
    dcat = torch.randn_like(result)
    dcat[:, 3:] = torch.nan  # the skip connection's half is none of the convolution's business
    result.backward(dcat)
    torch.testing.assert_close(buffer.grad, dcat, rtol=0, atol=0, equal_nan=True)
    for leaf in leaves.values():
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("device", DEVICES)
def test_custom_ops_keep_their_word(device: str) -> None:
    pytest.importorskip("triton")
    leaves = arguments((2, 3, 4, 2, 1, 3), torch.float32, torch.float32, device=device)
    x, weight, bias, skip = (leaf.detach() for leaf in leaves.values())
    joined = torch.cat((skip, skip), dim=1).to(memory_format=LAST)
    torch.library.opcheck(torch.ops.voxelrate.up_join.default, (x, weight, bias, joined))
    torch.library.opcheck(torch.ops.voxelrate.up_join_backward.default, (joined, x, weight, bias.dtype))


def test_launches_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    if torch.cuda.is_available():
        pytest.skip("counts the interpreter's launches")
    launches, call = [], interpreter.GridExecutor.__call__
    monkeypatch.setattr(
        interpreter.GridExecutor, "__call__", lambda *a, **k: launches.append(a) or call(*a, **k)
    )
    leaves = arguments((1, 2, 3, 1, 2, 1), torch.float32, torch.float32)
    result = fused("triton", **leaves)
    assert len(launches) == LAUNCHES["voxelrate::up_join"]
    with_gradients(result, torch.ones_like(result), leaves)
    assert len(launches) == sum(LAUNCHES.values())


def test_the_meta_device_needs_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model.ops.up_join.launch", None)
    with torch.device("meta"):
        x = torch.empty(7, 64, 64, 64, 64, dtype=torch.bfloat16).to(memory_format=LAST).requires_grad_()
        weight = torch.empty(64, 32, 2, 2, 2).to(memory_format=LAST).requires_grad_()
        bias = torch.empty(32, requires_grad=True)
        joined = torch.empty(7, 64, 128, 128, 128, dtype=torch.bfloat16).to(memory_format=LAST)
    result = up_join(x, weight, bias, joined, backend="triton")
    grads = torch.autograd.grad(result, (x, weight, bias), torch.empty_like(result))
    for grad, leaf in zip(grads, (x, weight, bias), strict=True):
        assert (grad.shape, grad.dtype, grad.stride()) == (leaf.shape, leaf.dtype, leaf.stride())


def test_blocks_shrink_until_they_fill_the_gpu() -> None:
    launch = pytest.importorskip("model.ops.up_join.launch")
    assert launch.product_blocks(2 * 64**3, 256, 64, itemsize=2) == (128, 128, 64)
    assert launch.product_blocks(2 * 64**3, 256, 64, itemsize=4) == (64, 64, 32)
    assert launch.product_blocks(2 * 8**3, 2048, 320, itemsize=2) == (64, 64, 64)
    assert launch.product_blocks(2 * 4**3, 320, 2560, itemsize=2) == (32, 32, 64)
    assert launch.product_blocks(1, 8, 1, itemsize=2) == (32, 16, 16)


def test_partial_sums_stay_small() -> None:
    launch = pytest.importorskip("model.ops.up_join.launch")
    for ci, co, edge in [(320, 320, 4), (320, 256, 8), (256, 128, 16), (128, 64, 32), (64, 32, 64)]:
        for n in (1, 2, 7, 100):
            voxels = n * edge**3
            *_, step, chunk = launch.weight_blocks(voxels, ci, co, itemsize=2)
            chunks = -(-voxels // chunk)
            assert chunk % step == 0
            assert chunks * (ci + 1) * 8 * co * 4 <= 2**26


def fitting() -> dict[str, Any]:
    return {
        "x": torch.zeros(2, 3, 1, 2, 3).to(memory_format=LAST),
        "weight": torch.zeros(3, 4, 2, 2, 2),
        "bias": torch.zeros(4),
        "joined": torch.zeros(2, 8, 2, 4, 6).to(memory_format=LAST),
        "backend": "triton",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "native"}, "backend must be reference or triton, found 'native'"),
        ({"weight": torch.zeros(3, 4, 3, 3, 3)}, "weight Ci x Co x 2 x 2 x 2"),
        ({"weight": torch.zeros(4, 3, 2, 2, 2)}, "weight Ci x Co x 2 x 2 x 2"),
        ({"bias": torch.zeros(1, 4)}, "bias Co"),
        ({"x": torch.zeros(3, 1, 2, 3)}, "x must be N x Ci x D x H x W"),
        ({"joined": torch.zeros(2, 4, 2, 4, 6)}, r"joined must be \(2, 8, 2, 4, 6\)"),
        ({"joined": torch.zeros(2, 8, 2, 4, 6).half()}, "joined must have x's dtype"),
        ({"joined": torch.zeros(2, 8, 2, 4, 6)}, "joined must be contiguous in channels_last_3d"),
        ({"x": torch.zeros(2, 3, 1, 2, 3)}, "x must be contiguous in channels_last_3d"),
        ({"weight": torch.zeros(3, 4, 2, 2, 2).double()}, "the kernels take float32, float16 and bfloat16"),
        ({"weight": torch.zeros(3, 4, 2, 2, 2).mT}, "weight must be contiguous or in channels_last_3d"),
        ({"bias": torch.zeros(4, device="meta")}, "must be on one device"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        up_join(**fitting() | changes)


def test_kernels_want_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="need a CUDA device"):
        up_join(**fitting())


def test_the_twin_takes_strided_arguments() -> None:
    leaves = {name: leaf.detach() for name, leaf in arguments((2, 3, 4, 2, 1, 3)).items()}
    x, weight = leaves["x"].flip(0)[:, :, ::2], leaves["weight"].transpose(3, 4)
    joined = torch.full((2, 8, 4, 2, 12), torch.nan, dtype=torch.float64)[..., ::2][:, :, :2]
    reference.forward(x, weight, leaves["bias"], joined)
    torch.testing.assert_close(joined[:, :4], F.conv_transpose3d(x, weight, leaves["bias"], stride=2))
    assert joined[:, 4:].isnan().all()
