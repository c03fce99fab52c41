"""Fused optimizers against loops, their checkpoints; the choice of whose optimizer."""

import copy
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from runtime.errors import RunError
from runtime.lamb import Lamb
from runtime.optimizers import OptimizerConfig, build_optimizer, is_fused, set_learning_rate
from runtime.resume import _restore_optimizer

SHAPES = ((4, 5, 3, 3, 3), (4, 1, 3, 3, 3), (3, 8, 1, 1, 1), (6, 4, 2, 2, 2), (7,))
LAYOUTS = {"NCDHW": torch.contiguous_format, "NDHWC": torch.channels_last_3d}
ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def parameters(
    layout: str = "NCDHW", dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> list[nn.Parameter]:
    """The same weights and biases of a small network whenever they are asked for."""
    generator = torch.Generator().manual_seed(3)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    values = [value.to(device, dtype) for value in values]
    return [nn.Parameter(v.to(memory_format=LAYOUTS[layout]) if v.dim() == 5 else v) for v in values]


def run(
    optimizer: Optimizer, params: list[nn.Parameter], steps: range = range(20), layout: str = "NCDHW"
) -> list[Tensor]:
    """The parameters after these steps, each with gradients of its own and a learning rate of its own."""
    for step in steps:
        generator = torch.Generator().manual_seed(100 + step)
        for p in params:
            gradient = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
            p.grad = gradient.to(memory_format=LAYOUTS[layout]) if p.dim() == 5 else gradient
        set_learning_rate(optimizer, 0.5 / 2 ** (step // 4))
        optimizer.step()
    return [p.detach().clone() for p in params]


def test_sgd_is_nesterovs_only_with_momentum() -> None:
    params = [nn.Parameter(torch.zeros(1))]
    for momentum in (0.0, 0.9):
        optimizer, whose = build_optimizer(params, 0.1, OptimizerConfig(momentum=momentum))
        assert optimizer.defaults["nesterov"] is (momentum > 0)
        assert whose.startswith("sgd of torch")


def test_apex_that_is_missing_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "apex", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match="not installed"):
        build_optimizer([nn.Parameter(torch.zeros(1))], 0.1, OptimizerConfig(backend="apex"))


def test_the_other_package_named_apex_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "apex", types.ModuleType("apex"))
    params = [nn.Parameter(torch.zeros(1))]
    with pytest.raises(RunError, match="PyPI's apex"):
        build_optimizer(params, 0.1, OptimizerConfig(backend="apex"))
    _, whose = build_optimizer(params, 0.1, OptimizerConfig(backend="auto"))
    assert whose.startswith("sgd of torch")
    assert "PyPI's apex" in whose


def test_apex_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorder(torch.optim.SGD):
        def __init__(self, params: object, **kwargs: object) -> None:
            self.kwargs = kwargs
            super().__init__(params, lr=0.1)  # type: ignore[arg-type]

    apex, optimizers = types.ModuleType("apex"), types.ModuleType("apex.optimizers")
    apex.optimizers = optimizers  # type: ignore[attr-defined]
    for name in ("FusedSGD", "FusedAdam", "FusedLAMB"):
        setattr(optimizers, name, type(name, (Recorder,), {}))
    monkeypatch.setitem(sys.modules, "apex", apex)
    monkeypatch.setitem(sys.modules, "apex.optimizers", optimizers)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    expected = {
        "sgd": {"momentum": 0.9, "nesterov": True},
        "adam": {"adam_w_mode": False},
        "lamb": {"betas": (0.9, 0.999)},
    }
    for name, own in expected.items():
        optimizer, whose = build_optimizer([nn.Parameter(torch.zeros(1))], 0.3, OptimizerConfig(name=name))
        assert type(optimizer).__name__ == {"sgd": "FusedSGD", "adam": "FusedAdam", "lamb": "FusedLAMB"}[name]
        assert optimizer.kwargs == {"lr": 0.3, "weight_decay": 0.0, **own}  # type: ignore[attr-defined]
        assert "of apex" in whose


CONFIGS = {
    "sgd": OptimizerConfig(weight_decay=0.25),
    "sgd without momentum": OptimizerConfig(momentum=0.0, weight_decay=0.25),
    "adam": OptimizerConfig(name="adam", weight_decay=0.25),
    "lamb": OptimizerConfig(name="lamb", weight_decay=0.25),
}


def by_loops(params: list[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """What `build_optimizer` gives, without fused kernels and preparations."""
    match config.name:
        case "sgd":
            nesterov = config.momentum > 0
            return SGD(params, 0.5, config.momentum, 0, config.weight_decay, nesterov, foreach=False)
        case "adam":
            return Adam(params, 0.5, weight_decay=config.weight_decay, foreach=False)
    return Lamb(params, 0.5, weight_decay=config.weight_decay)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_CUDA)])
def test_fused_steps_are_those_of_the_loop(
    config: OptimizerConfig, layout: str, tensor_lr: bool, device: str
) -> None:
    plain = parameters()
    expected = run(by_loops(plain, config), plain)
    params = parameters(layout, device=device)
    optimizer, whose = build_optimizer(params, 0.5, config, tensor_lr=tensor_lr)
    assert ("fused" in whose) is is_fused(optimizer) is (config.name != "lamb")
    for found, value in zip(run(optimizer, params, layout=layout), expected, strict=True):
        torch.testing.assert_close(found.cpu(), value, rtol=1e-11, atol=1e-11)
    assert isinstance(optimizer.param_groups[0]["lr"], Tensor) is tensor_lr


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_float32_steps_are_those_of_float64(config: OptimizerConfig) -> None:
    plain, params = parameters(), parameters(dtype=torch.float32)
    expected = run(by_loops(plain, config), plain, range(5))
    optimizer, _ = build_optimizer(params, 0.5, config, tensor_lr=True)
    for found, value in zip(run(optimizer, params, range(5)), expected, strict=True):
        torch.testing.assert_close(found.double(), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_goes_between_layouts_and_kinds_of_step(
    config: OptimizerConfig, tensor_lr: bool, layout: str
) -> None:
    """Six steps in one piece are four, a file, and two by an optimizer of the other kind, layout and rate."""
    plain = parameters()
    expected = run(by_loops(plain, config), plain, range(6))
    other = "NDHWC" if layout == "NCDHW" else "NCDHW"
    for from_loops in (False, True):
        first = parameters(layout)
        giver, _ = build_optimizer(first, 0.5, config, tensor_lr=tensor_lr)
        if from_loops:
            giver = by_loops(first, config)
        run(giver, first, range(4), layout)
        saved = copy.deepcopy(giver.state_dict())
        assert isinstance(saved["param_groups"][0]["lr"], float)
        second = parameters(other)
        for p, value in zip(second, first, strict=True):
            p.data.copy_(value.detach())
        taker, _ = build_optimizer(second, 9.0, config, tensor_lr=not tensor_lr)
        rate = taker.param_groups[0]["lr"]
        _restore_optimizer(taker, saved, Path("c.pth"))
        assert not isinstance(rate, Tensor) or taker.param_groups[0]["lr"] is rate, "which a graph would read"
        assert float(taker.param_groups[0]["lr"]) == 9.0
        for found, value in zip(run(taker, second, range(4, 6), other), expected, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)


def test_states_load_into_optimizers_that_know_nothing_of_ours() -> None:
    params = parameters()
    for name, stranger in (("sgd", SGD(params, lr=0.1, momentum=0.9)), ("adam", Adam(params, lr=0.1))):
        optimizer, _ = build_optimizer(params, 0.25, OptimizerConfig(name=name), tensor_lr=True)
        run(optimizer, params, range(3))
        stranger.load_state_dict(optimizer.state_dict())
        assert type(stranger.param_groups[0]["lr"]) is float
        run(stranger, params, range(3, 5))


def test_momentum_begins_at_zero_even_where_the_first_step_is_skipped() -> None:
    """torch leaves what lay in memory: see `_place_moments`."""
    params = [nn.Parameter(torch.zeros(1000))]
    optimizer, _ = build_optimizer(params, 1.0, OptimizerConfig())
    rubbish = [torch.full((1000,), 7e8) for _ in range(64)]
    del rubbish
    scaler = torch.amp.GradScaler("cpu")
    for gradient in (torch.inf, 1.0):
        params[0].grad = torch.full((1000,), gradient) * scaler.get_scale()
        scaler.scale(torch.zeros(()))
        scaler.step(optimizer)
        scaler.update()
    assert torch.equal(params[0].detach(), torch.full((1000,), -1.9))
    assert torch.equal(optimizer.state[params[0]]["momentum_buffer"], torch.ones(1000))


def test_a_state_from_before_the_first_step_can_be_loaded() -> None:
    for config in CONFIGS.values():
        giver, _ = build_optimizer(parameters(), 0.5, config)
        params = parameters()
        taker, _ = build_optimizer(params, 0.5, config)
        _restore_optimizer(taker, giver.state_dict(), Path("c.pth"))
        plain = parameters()
        expected = run(by_loops(plain, config), plain, range(2))
        for found, value in zip(run(taker, params, range(2)), expected, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)


def test_gradients_in_another_order_are_refused_on_the_cpu() -> None:
    params = parameters("NDHWC")
    optimizer, _ = build_optimizer(params, 0.5, OptimizerConfig())
    with pytest.raises(RuntimeError, match="one memory layout"):
        run(optimizer, params, range(1), layout="NCDHW")


def test_a_rate_on_the_device_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.optimizers._apex_optimizers", lambda: (object(), "installed"))
    optimizer, whose = build_optimizer(parameters(), 0.5, OptimizerConfig(), tensor_lr=True)
    assert type(optimizer) is SGD
    assert "CUDA graph" in whose
    with pytest.raises(RunError, match="apex cannot be used: a CUDA graph"):
        build_optimizer(parameters(), 0.5, OptimizerConfig(backend="apex"), tensor_lr=True)


def test_unknown_names_are_refused() -> None:
    for config in (OptimizerConfig(name="sgdw"), OptimizerConfig(backend="cuda")):
        with pytest.raises(ValueError, match="must be"):
            build_optimizer(parameters(), 0.5, config)
