"""Loss scales, static and dynamic, with fused and other optimizers; who waits for the device."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from runtime.optimizers import OptimizerConfig, build_optimizer, set_learning_rate
from runtime.precision import LossScaler, Precision, StaticLossScaler, step_waits

STATIC = Precision("cpu", True, "float16", static_loss_scale=1024.0)
DYNAMIC = Precision("cpu", True, "float16")
NAMES = ("sgd", "adam", "lamb")


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def optimizer_of(model: nn.Module, name: str = "sgd", tensor_lr: bool = False) -> Optimizer:
    config = OptimizerConfig(name=name, weight_decay=0.01)
    return build_optimizer(model.parameters(), 0.25, config, tensor_lr=tensor_lr)[0]


def train(
    model: nn.Module, optimizer: Optimizer, scaler: LossScaler, steps: int = 5, parts: int = 2
) -> list[Tensor]:
    """Steps with the gradients of several micro-batches; the parameters at the end."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        for _ in range(parts):
            image = torch.randn(3, 6, generator=generator, dtype=torch.float64)
            scaler.scale(model(image).square().mean() / parts).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return [p.detach().clone() for p in model.parameters()]


def off() -> LossScaler:
    return Precision("cpu").scaler()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_a_power_of_two_changes_nothing(name: str, precision: Precision) -> None:
    plain, scaled = network(), network()
    expected = train(plain, optimizer_of(plain, name), off())
    scaler = precision.scaler()
    found = train(scaled, optimizer_of(scaled, name), scaler)
    assert scaler.is_enabled()
    assert scaler.get_scale() in (1024.0, 65536.0)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_other_scales_round(name: str) -> None:
    plain, scaled = network(), network()
    expected = train(plain, optimizer_of(plain, name), off())
    found = train(scaled, optimizer_of(scaled, name), StaticLossScaler(1000.0, "cpu"))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_left_without_their_scale(fused: bool) -> None:
    p = nn.Parameter(torch.zeros(5))
    optimizer = SGD([p], lr=1.0, fused=fused)
    scaler = StaticLossScaler(8.0, "cpu")
    scaler.scale((p * torch.arange(5)).sum()).backward()
    scaler.step(optimizer)
    assert p.grad is not None
    assert torch.equal(p.grad, torch.arange(5.0))
    assert torch.equal(p.detach(), -torch.arange(5.0))
    assert not hasattr(optimizer, "grad_scale"), "or a step without a scaler would divide too"


def test_a_static_scale_does_every_step_and_stays() -> None:
    p = nn.Parameter(torch.zeros(2))
    optimizer, _ = build_optimizer([p], 1.0, OptimizerConfig())
    scaler = STATIC.scaler()
    p.grad = torch.tensor([math.inf, 1024.0])
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(p.detach(), torch.tensor([-math.inf, -1.9]))
    assert scaler.get_scale() == 1024.0


def test_a_checkpoint_of_another_scale_does_not_change_a_static_one() -> None:
    dynamic, static = DYNAMIC.scaler(), STATIC.scaler()
    static.load_state_dict(dynamic.state_dict())
    assert static.get_scale() == 1024.0
    assert static.state_dict() == {}, "which a dynamic scaler takes for a new beginning"


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_scales_are_positive_and_finite(scale: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        StaticLossScaler(scale, "cpu")


@pytest.mark.parametrize(("amp", "dtype"), [(False, "float16"), (True, "bfloat16")])
def test_only_float16_scales(amp: bool, dtype: str) -> None:
    assert not Precision("cpu", amp, dtype).scaler().is_enabled()
    with pytest.raises(ValueError, match="float16"):
        Precision("cpu", amp, dtype, static_loss_scale=2.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_gradients_and_moments_are_float32(dtype: str) -> None:
    model, precision = nn.Linear(4, 4), Precision("cpu", True, dtype)
    optimizer = optimizer_of(model)
    with precision.autocast():
        output = model(torch.ones(2, 4))
    precision.scaler().scale(output.float().sum()).backward()
    assert output.dtype == getattr(torch, dtype)
    moments = [value for state in optimizer.state.values() for value in state.values()]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(moments) == len(gradients) == 2
    assert {t.dtype for t in [*model.parameters(), *moments, *gradients]} == {torch.float32}


class Waits(TorchDispatchMode):
    """Counts the reads of a tensor's value by the host, which wait for the device where there is one."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", [STATIC, DYNAMIC, Precision("cpu")], ids=["static", "dynamic", "off"])
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_steps_do_not_wait_but_where_it_is_said(name: str, precision: Precision, tensor_lr: bool) -> None:
    model = network()
    optimizer, scaler = optimizer_of(model, name, tensor_lr), precision.scaler()
    train(model, optimizer, scaler, steps=1)
    with Waits() as waits:
        train(model, optimizer, scaler, steps=2)
    assert (waits.count > 0) is step_waits(scaler, optimizer) is (name == "lamb" and precision is DYNAMIC)


def stepped(name: str, scale: float | None, recorded: bool) -> list[Tensor]:
    """Parameters on the GPU after eight steps, the last five of them replays of a CUDA graph if asked."""
    torch.manual_seed(1)
    params = [nn.Parameter(torch.randn(shape, device="cuda")) for shape in ((8, 4, 3, 3, 3), (5000,))]
    optimizer, _ = build_optimizer(params, 0.5, OptimizerConfig(name=name), tensor_lr=True)
    scaler = Precision("cuda", True, "float16", static_loss_scale=scale).scaler()
    scaler.scale(torch.zeros((), device="cuda"))
    for p in params:
        p.grad = torch.zeros_like(p)

    def step() -> None:
        scaler.step(optimizer)
        scaler.update()

    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    for number in range(8):
        for p in params:
            assert p.grad is not None
            gradient = torch.randn(p.shape) * scaler.get_scale()
            overflows = scale is None and number == 5
            p.grad.copy_(torch.full_like(gradient, torch.inf) if overflows else gradient)
        set_learning_rate(optimizer, 0.5 / (1 + number))
        torch.cuda.synchronize()
        if not recorded:
            step()
        elif number < 3:
            with torch.cuda.stream(stream):
                step()
        else:
            if number == 3:
                with torch.cuda.graph(graph):
                    step()
            graph.replay()
        torch.cuda.synchronize()
    return [p.detach().clone() for p in params]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "scale"), [(n, s) for n in NAMES for s in (1024.0, None)][:-1])
def test_a_cuda_graph_steps_as_without_one(name: str, scale: float | None) -> None:
    """But for LAMB under a dynamic scale, whose step waits for the device."""
    eager, replayed = stepped(name, scale, recorded=False), stepped(name, scale, recorded=True)
    assert all(value.isfinite().all() for value in eager)
    assert all(torch.equal(a, b) for a, b in zip(eager, replayed, strict=True))
