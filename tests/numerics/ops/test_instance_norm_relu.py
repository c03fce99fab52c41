"""Fused instance norm and (leaky) ReLU, twin and kernels, against PyTorch's own in float64."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.ops.instance_norm_relu import instance_norm_relu, instance_norm_relu_joined, normalize, tiling

ON_CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="here the kernels run on the CUDA device")
ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
# Triton's interpreter truncates to bfloat16 where a GPU rounds.
PATHS = [
    *(pytest.param("reference", "cpu", dtype, id=f"reference-{SHORT[dtype]}") for dtype in SHORT),
    *(
        pytest.param("triton", "cpu", dtype, id=f"triton-cpu-{SHORT[dtype]}", marks=ON_CPU)
        for dtype in (torch.float32, torch.float16)
    ),
    *(
        pytest.param("triton", "cuda", dtype, id=f"triton-cuda-{SHORT[dtype]}", marks=ON_CUDA)
        for dtype in SHORT
    ),
]
BACKENDS = [
    pytest.param("reference", "cpu", id="reference"),
    pytest.param("triton", "cpu", id="triton-cpu", marks=ON_CPU),
    pytest.param("triton", "cuda", id="triton-cuda", marks=ON_CUDA),
]


def native(x: Tensor, weight: Tensor, bias: Tensor, slope: float = 0.0) -> Tensor:
    return F.leaky_relu(F.instance_norm(x, weight=weight, bias=bias), slope)


def volume(
    *shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu", scale: float = 1.0
) -> Tensor:
    """A random channels_last_3d tensor."""
    random = (scale * torch.randn(shape)).to(device, dtype)
    return random.contiguous(memory_format=torch.channels_last_3d)


def affine(channels: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    return (0.5 + torch.randn(channels)).to(device), torch.randn(channels).to(device)


def leaves(*tensors: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
    return [tensor.detach().clone().to(dtype or tensor.dtype).requires_grad_() for tensor in tensors]


def results(y: Tensor, dy: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """y and the gradients of x, weight and bias."""
    return [y.detach(), *torch.autograd.grad(y, inputs, dy)]


def error(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-30)).item()


def assert_as_good_as_native(
    found: list[Tensor], x: Tensor, weight: Tensor, bias: Tensor, dy: Tensor, slope: float = 0.0
) -> None:
    """At most twice the error of PyTorch's own path in the same dtype, both against float64."""
    inputs = leaves(x, weight, bias, dtype=torch.float64)
    exact = results(native(*inputs, slope), dy.double(), inputs)
    inputs = leaves(x, weight, bias, dtype=x.dtype)
    own = results(native(*inputs, slope), dy.to(x.dtype), inputs)
    for name, f, e, o in zip(("y", "dx", "dweight", "dbias"), found, exact, own, strict=True):
        assert error(f, e) <= 2 * error(o, e) + 1e-6, name


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of several tiles, where the interpreter would else see one of each."""
    monkeypatch.setattr(tiling, "TILE_ELEMENTS", 64)
    monkeypatch.setattr(tiling, "PROGRAMS", 12)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fresh memory holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("memory_format", [torch.channels_last_3d, torch.contiguous_format])
@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 2), (3, 3, 3, 5, 7), (2, 64, 3, 2, 1), (1, 320, 2, 2, 2)])
def test_twin_is_native_in_float64(
    shape: tuple[int, ...], slope: float, memory_format: torch.memory_format
) -> None:
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=memory_format)
    weight, bias = affine(shape[1])
    dy = torch.randn(shape, dtype=torch.float64)
    inputs = leaves(x, weight, bias, dtype=torch.float64)
    expected = results(native(*inputs, slope), dy, inputs)
    y, mean, rstd = instance_norm_relu(
        *inputs, negative_slope=slope, backend="reference", with_statistics=True
    )
    found = results(y, dy, inputs)
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-10)
    assert y.stride() == x.stride() == found[1].stride()
    torch.testing.assert_close(mean, x.mean((2, 3, 4)))
    torch.testing.assert_close(rstd, (x.var((2, 3, 4), correction=0) + 1e-5).rsqrt())


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_gradcheck_of_the_twin(slope: float) -> None:
    inputs = leaves(torch.randn(2, 3, 2, 1, 3), *affine(3), dtype=torch.float64)

    def both(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        y, joined = instance_norm_relu_joined(*inputs, negative_slope=slope, backend="reference")
        return y, joined[:, 3:]

    assert torch.autograd.gradcheck(both, inputs)


def test_the_twin_is_the_same_by_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = leaves(torch.randn(2, 3, 7, 3, 5), *affine(3), dtype=torch.float64)
    dy = torch.randn(2, 3, 7, 3, 5, dtype=torch.float64)
    expected = results(native(*inputs), dy, inputs)
    monkeypatch.setattr("model.ops.instance_norm_relu.reference.SLAB_ELEMENTS", 2 * 3 * 3 * 5)
    for f, e in zip(
        results(instance_norm_relu(*inputs, backend="reference"), dy, inputs), expected, strict=True
    ):
        torch.testing.assert_close(f, e, rtol=1e-10, atol=1e-10)


SHAPES = [
    (1, 1, 1, 1, 2),
    (3, 3, 3, 5, 7),
    (2, 1, 2, 3, 1),
    (1, 32, 3, 6, 7),
    (3, 5, 1, 3, 1),
    (2, 64, 3, 1, 5),
    (1, 130, 2, 2, 2),
    (1, 320, 3, 1, 3),
]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize(("backend", "device", "dtype"), PATHS)
def test_values_and_gradients(backend: str, device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x, dy = volume(*shape, dtype=dtype, device=device), volume(*shape, dtype=dtype, device=device)
    weight, bias = affine(shape[1], device)
    inputs = leaves(x, weight, bias)
    y = instance_norm_relu(*inputs, backend=backend)
    found = results(y, dy, inputs)
    assert y.dtype == found[1].dtype == dtype
    assert found[2].dtype == found[3].dtype == torch.float32
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert found[1].is_contiguous(memory_format=torch.channels_last_3d)
    assert_as_good_as_native(found, x, weight, bias, dy)


@pytest.mark.usefixtures("small_tiles", "poisoned")
@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
@pytest.mark.parametrize(("backend", "device", "dtype"), PATHS)
def test_chunks_of_tiles_and_slopes(backend: str, device: str, dtype: torch.dtype, slope: float) -> None:
    assert tiling.tiling(2, 3, 245) == tiling.Tiling(4, 16, 4, 1, 4)
    x, dy = (volume(2, 3, 5, 7, 7, dtype=dtype, device=device) for _ in range(2))
    weight, bias = affine(3, device)
    inputs = leaves(x, weight, bias)
    found = results(instance_norm_relu(*inputs, negative_slope=slope, backend=backend), dy, inputs)
    assert_as_good_as_native(found, x, weight, bias, dy, slope)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("mean_in_deviations", [0, 30, 300])
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_variance_beside_a_large_mean(backend: str, device: str, mean_in_deviations: float) -> None:
    x = (volume(2, 4, 7, 8, 9, device=device) + mean_in_deviations) * torch.tensor(0.7, device=device)
    _, mean, rstd = instance_norm_relu(x, *affine(4, device), eps=1e-8, backend=backend, with_statistics=True)
    exact = x.double()
    variance = rstd.double() ** -2 - 1e-8
    torch.testing.assert_close(variance, exact.var((2, 3, 4), correction=0), rtol=1e-5, atol=0)
    # Half a unit in the last place is 6e-8. A GPU adds in another order than numpy.
    rtol = {"reference": 2.4e-7, "triton": 6e-8 if device == "cpu" else 1.2e-7}[backend]
    torch.testing.assert_close(mean.double(), exact.mean((2, 3, 4)), rtol=rtol, atol=1e-7)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_a_number_of_exactly_zero_has_the_negative_slope(backend: str, device: str) -> None:
    x, dy = (volume(2, 3, 2, 3, 5, device=device) for _ in range(2))
    # The middle channel is 0 everywhere before the activation.
    weight, bias = (
        torch.tensor([-1.5, 0.0, 0.0], device=device),
        torch.tensor([0.5, 0.0, -1.0], device=device),
    )
    for slope in (0.0, 0.25):
        inputs = leaves(x, weight, bias)
        found = results(instance_norm_relu(*inputs, negative_slope=slope, backend=backend), dy, inputs)
        assert_as_good_as_native(found, x, weight, bias, dy, slope)
        torch.testing.assert_close(found[3][1], slope * dy[:, 1].sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_a_nan_is_not_hidden(backend: str, device: str) -> None:
    x = volume(1, 3, 2, 2, 3, device=device)
    x[0, 1, 0, 0, 0] = torch.nan
    y = instance_norm_relu(x, *affine(3, device), backend=backend)
    assert y[0, 1].isnan().all()
    assert not y[0, ::2].isnan().any()


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("backend", "device"), BACKENDS)
def test_two_runs_have_the_same_bits_and_so_does_normalize(backend: str, device: str) -> None:
    x, dy = (volume(2, 5, 3, 4, 5, device=device, scale=3.0) for _ in range(2))
    inputs = leaves(x, *affine(5, device))
    runs = []
    for _ in range(2):
        y, mean, rstd = instance_norm_relu(*inputs, negative_slope=0.1, backend=backend, with_statistics=True)
        runs.append([*results(y, dy, inputs), mean, rstd])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    again = normalize(inputs[0], mean, rstd, *inputs[1:], negative_slope=0.1, backend=backend)
    assert torch.equal(again, y)
    assert not again.requires_grad
    assert not mean.requires_grad
    y, _ = instance_norm_relu_joined(*inputs, negative_slope=0.1, backend=backend)
    assert torch.equal(again, y)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", SHORT, ids=SHORT.values())
@pytest.mark.parametrize("shape", [(1, 32, 128, 128, 128), (2, 64, 64, 64, 64), (7, 320, 4, 4, 4)], ids=str)
def test_real_shapes(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x, dy = (volume(*shape, dtype=dtype, device="cuda") for _ in range(2))
    weight, bias = affine(shape[1], "cuda")
    inputs = leaves(x, weight, bias)
    y, mean, rstd = instance_norm_relu(*inputs, backend="triton", with_statistics=True)
    assert_as_good_as_native(results(y, dy, inputs), x, weight, bias, dy)
    assert torch.equal(y, normalize(x, mean, rstd, weight, bias, negative_slope=0.0, backend="triton"))
