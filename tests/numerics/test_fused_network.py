"""The whole network with fused operations against the same with PyTorch's own modules."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.losses import DiceCELoss
from model.ops import NATIVE, OPS, Backend, Ops
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime.precision import Precision
from runtime.schedule import LearningRate
from runtime.state import TrainState
from runtime.training import training_steps

FILTERS = (3, 4, 5, 6, 7)
SHAPE = (2, 1, 64, 32, 32)
"""The smallest that leaves two voxels to normalise below five levels."""
TINY_FILTERS, TINY = (4, 8), (2, 1, 16, 8, 8)
"""What the kernels' interpreter can run in seconds."""


def all_by(backend: Backend) -> Ops:
    return Ops(**dict.fromkeys(OPS, backend))


def network(
    ops: Ops, filters: tuple[int, ...] = FILTERS, dtype: torch.dtype = torch.float64, **more: Any
) -> Unet3D:
    torch.manual_seed(0)
    model = Unet3D(1, 3, filters=filters, ops=ops, **more).to(dtype)
    with torch.no_grad():  # affine parameters that do something
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(0.3 * torch.randn_like(p)) if "weight" in name else p.normal_(std=0.3)
    return model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def batch(shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(shape, generator=generator, dtype=torch.float64)
    label = (image > 0.5).to(torch.uint8) + (image > 1).to(torch.uint8)
    return Batch(image.to(dtype).contiguous(memory_format=torch.channels_last_3d), label)


def evaluated(model: Unet3D, ops: Ops, data: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    logits = model(data.image)
    loss = DiceCELoss(backend=ops.loss)(logits, data.label)
    loss.backward()
    return (
        logits.detach(),
        loss.detach(),
        {n: p.grad for n, p in model.named_parameters() if p.grad is not None},
    )


def largest_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(
        ((found[n].double() - e.double()).norm() / e.double().norm().clamp(min=1e-12)).item()
        for n, e in expected.items()
    )


@pytest.mark.parametrize("recompute", [False, True])
def test_twins_give_the_logits_loss_and_all_gradients_of_native_modules(recompute: bool) -> None:
    data, ops = batch(), all_by("reference")
    logits, loss, gradients = evaluated(network(NATIVE), NATIVE, data)
    found = evaluated(network(ops, recompute_norm=recompute), ops, data)
    assert len(gradients) == 78
    torch.testing.assert_close(found[0], logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[1], loss, rtol=1e-11, atol=0)
    assert largest_error(found[2], gradients) < 1e-8


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "none"])
def test_every_activation(activation: str) -> None:
    data, ops = batch((1, 1, 8, 8, 8)), all_by("reference")
    _, loss, gradients = evaluated(network(NATIVE, (3, 4), activation=activation), NATIVE, data)
    found = evaluated(network(ops, (3, 4), activation=activation), ops, data)
    torch.testing.assert_close(found[1], loss, rtol=1e-11, atol=0)
    assert largest_error(found[2], gradients) < 1e-8


@pytest.mark.parametrize("recompute", [False, True])
def test_kernels_are_as_exact_as_native_modules_in_float32(recompute: bool) -> None:
    pytest.importorskip("triton", reason="needs Triton")
    if torch.cuda.is_available():
        pytest.skip("the interpreter's test; tests/numerics/test_gpu.py has the GPU's")
    ops = all_by("triton")
    truth = evaluated(network(NATIVE, TINY_FILTERS), NATIVE, batch(TINY))
    float32 = batch(TINY, torch.float32)
    native = evaluated(network(NATIVE, TINY_FILTERS, torch.float32), NATIVE, float32)
    found = evaluated(network(ops, TINY_FILTERS, torch.float32, recompute_norm=recompute), ops, float32)
    floor = 1e-6
    assert (found[0] - truth[0]).norm() <= 2 * (native[0] - truth[0]).norm() + floor * truth[0].norm()
    assert abs(found[1] - truth[1]) <= 2 * abs(native[1] - truth[1]) + floor
    assert largest_error(found[2], truth[2]) <= 2 * largest_error(native[2], truth[2]) + floor


def curve(ops: Ops, amp_dtype: str | None = None, steps: int = 20, **more: Any) -> list[float]:
    model = network(ops, (4, 8, 16), torch.float32, **more)
    precision = Precision("cpu", amp_dtype is not None, amp_dtype or "float16")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    state = TrainState(model, DiceCELoss(backend=ops.loss), optimizer, precision.scaler(), precision)
    data = [batch((2, 1, 16, 16, 16), torch.float32)] * steps
    learning_rate = LearningRate(base=0.1)
    return [loss.item() for loss in islice(training_steps(state, iter(data), steps, learning_rate), steps)]


def test_loss_curves_of_twenty_steps_agree() -> None:
    native, fused = curve(NATIVE), curve(all_by("reference"))
    assert native[-1] < 0.8 * native[0]
    assert fused == pytest.approx(native, abs=1e-4)


def test_recomputing_norms_changes_no_bit() -> None:
    ops = all_by("reference")
    assert curve(ops, recompute_norm=True) == curve(ops)


def test_two_runs_give_the_same_bits() -> None:
    for backend in ("reference", "triton"):
        if backend == "triton" and torch.cuda.is_available():
            continue
        ops = all_by(backend)  # type: ignore[arg-type]
        runs = [
            evaluated(network(ops, TINY_FILTERS, torch.float32), ops, batch(TINY, torch.float32))
            for _ in range(2)
        ]
        assert torch.equal(runs[0][0], runs[1][0])
        assert all(torch.equal(runs[0][2][name], g) for name, g in runs[1][2].items())


class _Layouts(TorchDispatchMode):
    """Fails at the first tensor with five axes that is made in another order than NDHWC."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(value.alias_info and not value.alias_info.is_write for value in func._schema.returns):
            return result  # a view moves nothing
        for tensor in tree_leaves(result):
            if (
                isinstance(tensor, Tensor)
                and tensor.dim() == 5
                and tensor.shape[1] > 1
                and tensor.shape[-1] > 1
            ):
                self.seen += 1
                # A channel slice of a wider buffer counts: its channels are next to each other.
                by_place = [tensor.stride(axis) for axis in (0, 2, 3, 4, 1)]
                assert by_place == sorted(by_place, reverse=True), f"{func} made strides {tensor.stride()}"
                assert tensor.stride(1) == 1, f"{func} made strides {tensor.stride()}"
        return result


@pytest.fixture
def _two_threads() -> Iterator[None]:
    """With one thread PyTorch takes another 1x1x1 convolution on a CPU, which makes NCDHW."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("amp_dtype", [None, "bfloat16"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    "ops", [all_by("reference"), Ops(norm="reference"), Ops(norm="reference", join="reference")]
)
def test_no_tensor_of_a_step_leaves_ndhwc(ops: Ops, recompute: bool, amp_dtype: str | None) -> None:
    model = network(ops, dtype=torch.float32, recompute_norm=recompute)
    loss_fn = DiceCELoss(backend="reference")
    precision = Precision("cpu", amp_dtype is not None, amp_dtype or "float16")
    data = batch(dtype=torch.float32)
    with _Layouts() as layouts:
        with precision.autocast():
            loss = loss_fn(model(data.image), data.label)
        loss.backward()
    assert layouts.seen > 100


@pytest.mark.usefixtures("_two_threads")
def test_every_block_keeps_ndhwc_forward_and_backward() -> None:
    model = network(all_by("reference"), dtype=torch.float32)
    names = {}
    for name, module in model.named_modules():
        if not name.endswith(("0", "1", "2", "conv1", "conv2", "conv", "upsample_conv")) or name in names:
            continue
        names[name] = 0

        def check(where: str, tensor: Tensor, name: str = name) -> None:
            names[name] += 1
            layout = torch.channels_last_3d
            assert tensor.is_contiguous(memory_format=layout), f"{name}: {where} {tensor.stride()}"

        def forward(module: Any, inputs: Any, output: Tensor, check: Any = check) -> None:
            check("output", output)
            output.register_hook(lambda grad: check("gradient", grad))

        module.register_forward_hook(forward)
    data = batch(dtype=torch.float32)
    DiceCELoss(backend="reference")(model(data.image), data.label).backward()
    called = {name: count for name, count in names.items() if count}
    assert {count for name, count in called.items()} == {2}
    assert len(called) > 50


def test_the_native_norm_loses_ndhwc() -> None:
    """Why there are twins: were PyTorch to keep the layout one day, this says so."""
    with pytest.raises(AssertionError, match="made strides"), _Layouts():
        network(NATIVE, (3, 4))(batch((1, 1, 8, 8, 8)).image)
