"""LAMB against apex's formula in float64, and its state."""

import pytest
import torch
from torch import Tensor, nn

from runtime.lamb import Lamb


def lamb_by_formula(
    params: list[Tensor], gradients: list[list[Tensor]], lr: float, decay: float
) -> list[Tensor]:
    """apex's ``multi_tensor_lamb.cu`` written out one element after another, in float64."""
    beta1, beta2, eps = 0.9, 0.999, 1e-6
    p64 = [p.detach().double().clone() for p in params]
    m = [torch.zeros_like(p) for p in p64]
    v = [torch.zeros_like(p) for p in p64]
    for t, step_gradients in enumerate(gradients, start=1):
        g64 = [g.double() for g in step_gradients]
        norm = sum(float((g**2).sum()) for g in g64) ** 0.5
        for i, g in enumerate(g64):
            g = g / max(norm / 1.0, 1.0)
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            update = (m[i] / (1 - beta1**t)) / ((v[i] / (1 - beta2**t)).sqrt() + eps) + decay * p64[i]
            ratio = 1.0
            if decay != 0 and p64[i].norm() > 0 and update.norm() > 0:
                ratio = float(p64[i].norm() / update.norm())
            p64[i] = p64[i] - lr * ratio * update
    return p64


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("scale", [0.01, 100.0], ids=["below the clip", "clipped"])
def test_lamb_is_apexs(decay: float, scale: float) -> None:
    params = [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(7)), nn.Parameter(torch.zeros(4))]
    gradients = [[torch.randn_like(p) * scale for p in params] for _ in range(7)]
    expected = lamb_by_formula(params, gradients, 0.02, decay)
    optimizer = Lamb(params, lr=0.02, weight_decay=decay)
    for step_gradients in gradients:
        for p, g in zip(params, step_gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()
    for p, e in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach().double(), e, rtol=1e-5, atol=1e-6)


def test_lamb_resumes_from_its_state_dict() -> None:
    def run(restart: bool) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        p = nn.Parameter(torch.ones(4))
        optimizer = Lamb([p], lr=0.1)
        for step in range(6):
            if restart and step == 3:
                state = optimizer.state_dict()
                optimizer = Lamb([p], lr=0.1)
                optimizer.load_state_dict(state)
            p.grad = torch.randn(4, generator=generator)
            optimizer.step()
        return p.detach()

    assert torch.equal(run(restart=False), run(restart=True))


def test_lamb_leaves_gradients_and_unused_parameters_alone() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    used.grad = torch.full((2,), 50.0)
    Lamb([used, unused]).step()
    assert torch.equal(used.grad, torch.full((2,), 50.0))
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))


def test_its_state_is_of_apexs_kind() -> None:
    p = nn.Parameter(torch.ones(4))
    optimizer = Lamb([p])
    for _ in range(3):
        p.grad = torch.ones(4)
        optimizer.step()
    saved = optimizer.state_dict()
    assert type(saved["param_groups"][0]["step"]) is int
    assert saved["param_groups"][0]["step"] == 3
    assert set(saved["state"][0]) == {"exp_avg", "exp_avg_sq"}
