"""16-bit copies of weights against autocast's own casts."""

import copy
from typing import Any

import pytest
import torch

from model.convolutions import ShadowWeights
from model.losses import DiceCELoss
from model.ops import Ops
from model.unet3d import Unet3D
from tests.numerics.test_fused_network import batch

FILTERS, SHAPE = (4, 8), (2, 1, 16, 16, 16)
"""Not 8^3: below that, at 2^3, PyTorch 2.13 on a CPU takes the gradient of a bfloat16 weight in
channels_last_3d from uninitialised memory."""


def steps(
    shadow: bool, dtype: torch.dtype, count: int = 8, ops: Ops | None = None
) -> tuple[list[float], Unet3D]:
    torch.manual_seed(0)
    model = Unet3D(1, 3, filters=FILTERS, ops=ops or Ops())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    if shadow:
        ShadowWeights(model, dtype).follow(optimizer)
    data, losses = batch(SHAPE, torch.float32), []
    for _ in range(count):
        with torch.autocast("cpu", dtype):
            loss = DiceCELoss()(model(data.image), data.label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_is_bit_for_bit_what_autocast_does(dtype: torch.dtype) -> None:
    plain, model = steps(False, dtype)
    found, shadowed = steps(True, dtype)
    assert found == plain
    for name, weight in model.state_dict().items():
        assert torch.equal(shadowed.state_dict()[name], weight), name
    assert shadowed.state_dict().keys() == model.state_dict().keys()


def test_autocast_casts_no_weight_any_more() -> None:
    data = batch(SHAPE, torch.float32)
    for shadow, casts in ((False, True), (True, False)):
        _, model = steps(shadow, torch.bfloat16, count=1)
        with torch.profiler.profile() as profile, torch.autocast("cpu", torch.bfloat16):
            model(data.image)
        sizes = [e.count for e in profile.key_averages() if e.key == "aten::_to_copy"]
        weights = sum(1 for n, p in model.named_parameters() if p.dim() == 5)
        assert (sum(sizes) > weights) == casts


def test_a_changed_master_is_copied_when_it_is_used_next() -> None:
    _, model = steps(True, torch.bfloat16, count=1)
    other = copy.deepcopy(Unet3D(1, 3, filters=FILTERS))
    model.load_state_dict(other.state_dict())
    data = batch(SHAPE, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(data.image), other(data.image))


def test_outside_of_autocast_the_masters_are_used() -> None:
    losses: list[Any] = []
    data = batch(SHAPE, torch.float32)
    for shadow in (False, True):
        torch.manual_seed(0)
        model = Unet3D(1, 3, filters=FILTERS)
        if shadow:
            ShadowWeights(model, torch.bfloat16)
        losses.append(model(data.image))
    assert torch.equal(*losses)
