"""The reference's recorded numbers, reproduced in float64: network, losses, gradients, steps, windows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.losses import DiceCELoss, DiceScore
from model.ops import NATIVE, OPS, Backend, Ops
from model.unet3d import Unet3D
from pipelines.windows import count_windows
from runtime.inference import sliding_window_inference

GOLDEN = np.load(Path(__file__).parent / "data" / "reference.npz")


def seq(count: int, frequency: float, phase: float) -> Tensor:
    """sin(frequency * k + phase) for k = 0 .. count - 1, in float64."""
    return torch.sin(frequency * torch.arange(count, dtype=torch.float64) + phase)


TWINS = Ops(**dict.fromkeys(OPS, "reference"))


def golden_model(ops: Ops = NATIVE) -> Unet3D:
    """The MLPerf network with the weights of the golden file's formula."""
    model = Unet3D(1, 3, "instancenorm", "relu", ops=ops).double()
    with torch.no_grad():
        for phase, (name, parameter) in enumerate(model.named_parameters()):
            values = seq(parameter.numel(), 0.7, phase).view_as(parameter)
            if parameter.dim() == 5:
                values *= (2 / parameter[0].numel()) ** 0.5
            elif name.endswith("weight"):
                values = 1 + 0.1 * values
            else:
                values *= 0.1
            parameter.copy_(values)
    return model


@pytest.fixture(scope="module", params=[NATIVE, TWINS], ids=["native", "fused"])
def forward(request: pytest.FixtureRequest) -> tuple[Unet3D, Tensor, Tensor, Tensor]:
    """Model, image, label and logits with a graph."""
    model = golden_model(request.param)
    image = seq(2 * 64 * 32 * 32, 0.37, 0).view(2, 1, 64, 32, 32)
    label = (torch.arange(image.numel()) // 7 % 3).to(torch.uint8).view_as(image)
    return model, image, label, model(image)


def test_parameters_have_the_references_names_and_shapes_in_its_order() -> None:
    model = Unet3D(1, 3, "instancenorm", "relu")
    found = [(name, str(tuple(p.shape))) for name, p in model.named_parameters()]
    shapes = [
        str(tuple(int(n) for n in s.strip("()[]").replace(",", " ").split())) for s in GOLDEN["param_shapes"]
    ]
    assert found == list(zip(GOLDEN["param_names"].tolist(), shapes, strict=True))
    assert list(model.state_dict()) == GOLDEN["param_names"].tolist()


def test_logits(forward: tuple[Unet3D, Tensor, Tensor, Tensor]) -> None:
    logits = forward[3].detach().numpy().ravel()[GOLDEN["logits_probe_index"]]
    np.testing.assert_allclose(logits, GOLDEN["logits_probe_value"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("include_background", "key"), [(False, "loss_bg0"), (True, "loss_bg1")])
@pytest.mark.parametrize("layout", ["NCDHW", "NDHWC"])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_losses(
    forward: tuple[Unet3D, Tensor, Tensor, Tensor],
    include_background: bool,
    key: str,
    layout: str,
    backend: Backend,
) -> None:
    _, _, label, logits = forward
    if layout == "NDHWC":
        logits, label = logits.movedim(1, -1), label.movedim(1, -1)
    loss = DiceCELoss(include_background, layout, backend)(logits, label)
    assert loss.item() == pytest.approx(float(GOLDEN[key]), rel=1e-9)


def test_gradients(forward: tuple[Unet3D, Tensor, Tensor, Tensor]) -> None:
    model, _, label, logits = forward
    gradients = torch.autograd.grad(DiceCELoss()(logits, label), list(model.parameters()), retain_graph=True)
    norms = [g.norm().item() for g in gradients]
    np.testing.assert_allclose(norms, GOLDEN["grad_norms"], rtol=1e-6, atol=1e-15)
    sums = np.array([g.sum().item() for g in gradients])
    # A sum may cancel to nearly nothing, so its error is measured against the gradient's norm.
    scale = np.array([g.norm().item() * g.numel() ** 0.5 for g in gradients])
    assert np.all(np.abs(sums - GOLDEN["grad_sums"]) <= 1e-7 * scale + 1e-15)


def test_dice_score(forward: tuple[Unet3D, Tensor, Tensor, Tensor]) -> None:
    _, _, label, logits = forward
    score = DiceScore()(logits.detach(), label)
    np.testing.assert_allclose(score, GOLDEN["dice_score"], rtol=1e-5)


def test_three_steps_of_sgd() -> None:
    """Of the fused twins, whose gradients have to be right for the third step."""
    model = golden_model(TWINS)
    image = seq(2 * 64 * 32 * 32, 0.37, 0).view(2, 1, 64, 32, 32)
    label = (torch.arange(image.numel()) // 7 % 3).to(torch.uint8).view_as(image)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(3):
        loss = DiceCELoss(backend=TWINS.loss)(model(image), label)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    np.testing.assert_allclose(losses, GOLDEN["three_step_losses"], rtol=1e-7)


def dummy_network(v: Tensor) -> Tensor:
    """The golden file's stand-in for a network; the roll makes it depend on the window's borders."""
    return torch.cat((v, torch.tanh(2 * v), 0.5 * torch.roll(v, 5, -1)), dim=1)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_sliding_window(k: int) -> None:
    golden = {
        name.removeprefix(f"sw{k}_"): GOLDEN[name] for name in GOLDEN.files if name.startswith(f"sw{k}_")
    }
    shape = golden["shape"].tolist()
    index = torch.arange(int(np.prod(shape)))
    volume = torch.sin(0.37 * index.double()).float().view(1, 1, *shape)
    label = (index // 7 % 3).to(torch.uint8).view(1, 1, *shape)
    windows = 0

    def counting(v: Tensor) -> Tensor:
        nonlocal windows
        windows += 1
        return dummy_network(v)

    result, label = sliding_window_inference(volume, label, (128, 128, 128), counting)
    assert list(result.shape) == golden["result_shape"].tolist()
    assert list(label.shape) == golden["label_shape"].tolist()
    assert windows == count_windows(shape, (128, 128, 128), 0.5)
    np.testing.assert_allclose(result.mean((0, 2, 3, 4)), golden["channel_mean"], atol=2e-6)
    np.testing.assert_allclose(result.std((0, 2, 3, 4)), golden["channel_std"], rtol=1e-5)
    probe = result.numpy().ravel()[golden["probe_index"]]
    np.testing.assert_allclose(probe, golden["probe_value"], atol=2e-5)
    np.testing.assert_allclose(DiceScore()(result, label), golden["dice"], rtol=1e-5)
    assert DiceCELoss()(result, label).item() == pytest.approx(float(golden["loss"]), rel=1e-5)
