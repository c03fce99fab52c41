"""The fused loss: its twin against `DiceCELoss`, its kernels against the twin."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import model.ops.dice_ce as op
from model.losses import DiceCELoss
from model.ops.dice_ce import dice_ce, reference

CPU = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton compiles here, for the CUDA device only")
CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
on_devices = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=CPU), pytest.param("cuda", marks=CUDA)]
)
KERNELS = [
    pytest.param("cpu", torch.float32, marks=CPU),
    pytest.param("cpu", torch.float16, marks=CPU),
    pytest.param("cuda", torch.float32, marks=CUDA),
    pytest.param("cuda", torch.float16, marks=CUDA),
    pytest.param("cuda", torch.bfloat16, marks=CUDA),
]
"""The interpreter truncates to bfloat16 instead of rounding."""
layouts = pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
backgrounds = pytest.mark.parametrize("include_background", [False, True])


def random(n: int, k: int, space: tuple[int, ...], scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """float64 logits and uint8 labels."""
    generator = torch.Generator().manual_seed(n * k * space[0])
    logits = torch.randn(n, k, *space, generator=generator, dtype=torch.float64) * scale
    return logits, torch.randint(0, k, (n, 1, *space), generator=generator, dtype=torch.uint8)


def value_and_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, label: Tensor, grad: float = 1.0
) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    value = loss(logits, label)
    value.backward(torch.full_like(value, grad))
    assert logits.grad is not None
    return value.detach(), logits.grad


def fused(backend: str, include_background: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, label: dice_ce(
        logits,
        label,
        include_background=include_background,
        backend=backend,  # type: ignore[arg-type]
    )


def saturated() -> tuple[Tensor, Tensor]:
    logits, label = random(2, 3, (3, 4, 5))
    return logits * 1e4, label


def absent() -> tuple[Tensor, Tensor]:
    """No tumour in the labels, and hardly any predicted."""
    logits, label = random(2, 3, (3, 4, 5))
    logits[:, 2] -= 60
    return logits, label.clamp(max=1)


def background_only() -> tuple[Tensor, Tensor]:
    logits, label = random(1, 3, (3, 4, 5))
    logits[:, 0] += 1e3
    return logits, torch.zeros_like(label)


CASES = {
    "two classes": lambda: random(3, 2, (5, 3, 7)),
    "three classes": lambda: random(3, 3, (5, 3, 7)),
    "five classes": lambda: random(1, 5, (5, 3, 7)),
    "one voxel": lambda: random(3, 3, (1, 1, 1)),
    "saturated": saturated,
    "absent": absent,
    "background only": background_only,
}
cases = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Any:
    """triton.py, whose outputs and partial sums start as NaN."""
    pytest.importorskip("triton")

    def poisoned(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def allocate_nan(*args: Any, **kwargs: Any) -> Tensor:
            result = allocate(*args, **kwargs)
            return result.fill_(torch.nan) if result.is_floating_point() else result

        return allocate_nan

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    return importlib.import_module("model.ops.dice_ce.triton")


@pytest.mark.parametrize("classes", [2, 3, 5])
@backgrounds
def test_the_twins_gradient_is_that_of_its_value(classes: int, include_background: bool) -> None:
    logits, label = random(2, classes, (2, 3, 2))
    loss = fused("reference", include_background)
    assert torch.autograd.gradcheck(lambda x: loss(x, label), logits.requires_grad_())


@cases
@backgrounds
@layouts
def test_the_twin_is_dice_ce_loss(case: str, include_background: bool, layout: torch.memory_format) -> None:
    logits, label = CASES[case]()
    logits = logits.contiguous(memory_format=layout)
    expected, gradient = value_and_gradient(DiceCELoss(include_background), logits, label, 3.5)
    found, found_gradient = value_and_gradient(fused("reference", include_background), logits, label, 3.5)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(found_gradient, gradient, rtol=1e-10, atol=1e-12 * gradient.abs().max().item())
    assert found_gradient.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_twin_computes_low_precision_in_float32(dtype: torch.dtype) -> None:
    logits, label = random(2, 3, (40, 40, 40))
    logits = logits.to(dtype).contiguous(memory_format=torch.channels_last_3d)
    expected, gradient = value_and_gradient(DiceCELoss(), logits.float(), label, 1e4)
    found, found_gradient = value_and_gradient(fused("reference"), logits, label, 1e4)
    assert found.dtype == torch.float32
    assert found_gradient.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(found_gradient, gradient.to(dtype), rtol=0.01, atol=1e-6)


def test_the_twin_takes_any_layout_and_integer() -> None:
    logits, label = random(2, 3, (6, 5, 4))
    expected = value_and_gradient(DiceCELoss(), logits, label)
    wide = logits.repeat_interleave(2, dim=4)[..., ::2]
    apart = label.repeat_interleave(2, dim=2)[:, :, ::2]
    assert not apart.is_contiguous()
    for other in (apart, label.long(), label.short(), label.to(torch.int8)):
        torch.testing.assert_close(value_and_gradient(fused("reference"), wide, other), expected)


SHAPES = [
    pytest.param(1, 3, (17, 17, 17), id="two programs and a tail"),
    pytest.param(3, 3, (9, 7, 11), id="odd"),
    pytest.param(2, 3, (8, 8, 8), id="one full tile"),
    pytest.param(3, 3, (1, 1, 1), id="one voxel"),
    pytest.param(1, 2, (1, 5, 1), id="two classes"),
    pytest.param(2, 5, (3, 11, 9), id="five classes"),
    pytest.param(1, 16, (5, 7, 9), id="sixteen classes"),
]


def check_against_float64(
    logits: Tensor, label: Tensor, include_background: bool, device: str, dtype: torch.dtype
) -> None:
    """Error of the kernels at most twice that of PyTorch in this dtype, or 1e-6 of the largest value."""
    logits, label = logits.to(device, dtype), label.to(device)
    native = DiceCELoss(include_background)
    truth = value_and_gradient(native, logits.double(), label, 2.0**12)
    plain = value_and_gradient(native, logits, label, 2.0**12)
    found = value_and_gradient(fused("triton", include_background), logits, label, 2.0**12)
    assert found[0].dtype == torch.float32
    assert found[1].dtype == dtype
    assert found[1].stride() == logits.stride()
    for right, other, ours in zip(truth, plain, found, strict=True):
        error = (ours.double() - right).abs().max()
        assert error <= 2 * (other.double() - right).abs().max() + 1e-6 * right.abs().max()


@pytest.mark.parametrize(("device", "dtype"), KERNELS)
@pytest.mark.parametrize(("n", "k", "space"), SHAPES)
@pytest.mark.usefixtures("kernels")
def test_the_kernels_are_as_exact_as_pytorch(
    n: int, k: int, space: tuple[int, ...], device: str, dtype: torch.dtype
) -> None:
    logits, label = random(n, k, space)
    logits = logits.contiguous(memory_format=torch.channels_last_3d)
    check_against_float64(logits, label, False, device, dtype)


@on_devices
@cases
@backgrounds
@layouts
@pytest.mark.usefixtures("kernels")
def test_the_kernels_in_every_case(
    case: str, include_background: bool, layout: torch.memory_format, device: str
) -> None:
    logits, label = CASES[case]()
    check_against_float64(
        logits.contiguous(memory_format=layout), label, include_background, device, torch.float32
    )


@on_devices
def test_the_division_into_programs_does_not_matter(
    device: str, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "TILE_ELEMENTS", 64)
    monkeypatch.setattr(kernels, "MERGE_ROWS", 2)
    monkeypatch.setattr(kernels, "MERGE_COLUMNS", 2)
    logits, label = random(3, 3, (7, 9, 5))
    assert kernels.tiling(3, 7 * 9 * 5) == (16, 8, 3)
    check_against_float64(logits, label, False, device, torch.float32)


def test_programs_cover_every_voxel_once(kernels: Any) -> None:
    for classes in (2, 3, 5, 16):
        for voxels in (1, 511, 512, 513, 4097, 128**3):
            block, tiles, programs = kernels.tiling(classes, voxels)
            assert (programs - 1) * block * tiles < voxels <= programs * block * tiles
    assert kernels.tiling(3, 128**3) == (512, 8, 512)


@on_devices
@pytest.mark.usefixtures("kernels")
def test_two_runs_give_the_same_bits(device: str) -> None:
    logits, label = (x.to(device) for x in random(2, 3, (9, 7, 11)))
    first = value_and_gradient(fused("triton"), logits.half(), label)
    second = value_and_gradient(fused("triton"), logits.half(), label)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_twin_refuses_a_label_that_is_no_class() -> None:
    logits, label = random(1, 3, (2, 3, 4))
    label[0, 0, 1, 2, 3] = 3
    with pytest.raises(IndexError, match=r"0\.\.2, found 0\.\.3"):
        dice_ce(logits, label, backend="reference")
    with pytest.raises(IndexError, match=r"found -1\.\."):
        dice_ce(logits, label.long() - 1, backend="reference")


@on_devices
@pytest.mark.parametrize("wrong", [3, 4, 255])
@pytest.mark.usefixtures("kernels")
def test_the_kernels_answer_nan_to_a_label_that_is_no_class(wrong: int, device: str) -> None:
    logits, label = (x.to(device) for x in random(1, 3, (2, 3, 4)))
    label[0, 0, 1, 2, 3] = wrong
    loss, gradient = value_and_gradient(fused("triton"), logits.float(), label)
    assert loss.isnan()
    expected = (label == wrong).expand_as(gradient)
    assert torch.equal(gradient.isnan(), expected)


@on_devices
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_autocast_changes_nothing(backend: str, device: str, kernels: Any) -> None:
    logits, label = (x.to(device) for x in random(2, 3, (4, 5, 6)))
    for dtype in (torch.float32, torch.float16):
        plain = value_and_gradient(fused(backend), logits.to(dtype), label, 64.0)
        with torch.autocast(device, torch.bfloat16):
            cast = value_and_gradient(fused(backend), logits.to(dtype), label, 64.0)
        torch.testing.assert_close(cast, plain, rtol=0, atol=0)


@on_devices
def test_each_custom_op_launches_what_it_says(
    device: str, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = 0

    class Counting:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: Any) -> Any:
            nonlocal launches
            launches += 1
            return self.kernel[grid]

    for name in ("dice_ce_sum", "dice_ce_merge", "dice_ce_gradient"):
        monkeypatch.setattr(kernels, name, Counting(getattr(kernels, name)))
    logits, label = (x.to(device) for x in random(2, 3, (4, 5, 6)))
    loss, coefficients = torch.ops.voxelrate.dice_ce(logits.float(), label, False)
    assert launches == op.LAUNCHES["voxelrate::dice_ce"]
    torch.ops.voxelrate.dice_ce_backward(torch.ones_like(loss), logits.float(), label, coefficients)
    assert launches == sum(op.LAUNCHES.values())


class Recorded(TorchDispatchMode):
    """Names of the operators that were dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@layouts
def test_a_real_batch_on_the_meta_device_sees_nothing_but_the_custom_ops(layout: torch.memory_format) -> None:
    logits = torch.empty(7, 3, 128, 128, 128, device="meta", dtype=torch.bfloat16).to(memory_format=layout)
    label = torch.empty(7, 1, 128, 128, 128, device="meta", dtype=torch.uint8)
    with Recorded() as recorded:
        loss, gradient = value_and_gradient(fused("triton"), logits, label)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    assert gradient.is_contiguous(memory_format=layout)
    assert [name for name in recorded.names if not name.startswith("aten::")] == list(op.LAUNCHES)
    # full_like is this test's gradient of the loss.
    assert {name for name in recorded.names if name.startswith("aten::")} <= {
        "aten::detach",
        "aten::full_like",
    }


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_only_logits_labels_and_two_numbers_per_class_are_kept(backend: str) -> None:
    logits = torch.empty(7, 3, 16, 16, 16, device="meta", requires_grad=True)
    label = torch.empty(7, 1, 16, 16, 16, device="meta", dtype=torch.uint8)
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        fused(backend)(logits, label)
    assert [tuple(tensor.shape) for tensor in kept] == [tuple(logits.shape), tuple(label.shape), (2, 7, 2)]
    assert [tensor.dtype for tensor in kept] == [torch.float32, torch.uint8, torch.float32]


@on_devices
@pytest.mark.parametrize("include_background", [False, True])
def test_the_custom_ops_pass_opcheck(include_background: bool, device: str) -> None:
    pytest.importorskip("triton")
    logits, label = (x.to(device) for x in random(2, 3, (3, 4, 5)))
    logits = logits.float().contiguous(memory_format=torch.channels_last_3d)
    torch.library.opcheck(torch.ops.voxelrate.dice_ce.default, (logits, label, include_background))
    _, coefficients = reference.forward(logits.cpu(), label.cpu(), include_background)
    torch.library.opcheck(
        torch.ops.voxelrate.dice_ce_backward.default,
        (torch.ones((), device=device), logits, label, coefficients.to(device)),
    )


def test_the_gradient_has_no_gradient() -> None:
    logits, label = random(2, 3, (2, 3, 4))
    logits.requires_grad_()
    loss = dice_ce(logits, label, backend="reference")
    (gradient,) = torch.autograd.grad(loss.square(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("change", "backend", "message"),
    [
        (lambda x, y: (x, y), "native", "reference or triton, found 'native'"),
        (lambda x, y: (x, y[:, :, :1]), "reference", "labels N x 1 x D x H x W"),
        (lambda x, y: (x[0], y[0]), "reference", "N x K x D x H x W"),
        (lambda x, y: (x[:, :1], y), "reference", "two classes or more"),
        (lambda x, y: (x[..., :0], y[..., :0]), "reference", "at least one voxel"),
        (lambda x, y: (x, y.float()), "reference", "labels integers"),
        (lambda x, y: (x.int(), y), "reference", "logits must be floating point"),
        (lambda x, y: (x, y.to("meta")), "reference", "one device"),
        (lambda x, y: (x.double(), y), "triton", "float32, float16 or bfloat16"),
        (lambda x, y: (x, y.long()), "triton", "uint8 labels"),
        (lambda x, y: (x.repeat(1, 6, 1, 1, 1), y), "triton", "up to 16 classes, found 18"),
        (lambda x, y: (x.transpose(3, 4), y.transpose(3, 4)), "triton", "contiguous logits"),
        (lambda x, y: (x, y.transpose(3, 4).contiguous().transpose(3, 4)), "triton", "contiguous labels"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], backend: str, message: str
) -> None:
    logits, label = random(2, 3, (2, 3, 4))
    with pytest.raises(ValueError, match=message):
        fused(backend)(*change(logits.float(), label))


def test_a_device_without_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "why_no_triton", lambda device: f"no kernels on {device.type}")
    op._kernels.cache_clear()
    logits, label = random(2, 3, (2, 3, 4))
    with pytest.raises(ValueError, match="no kernels on cpu"):
        dice_ce(logits.float(), label, backend="triton")
