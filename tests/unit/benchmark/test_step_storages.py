"""What a forward pass leaves behind is counted by storage: all of it, once, and nothing else."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from benchmark.step.storages import LiveStorages

VOXELS = 1000
BYTES = 4 * VOXELS


@pytest.fixture(params=["cpu", "meta"])
def x(request: pytest.FixtureRequest) -> Tensor:
    return torch.ones(VOXELS, device=request.param)


def test_what_autograd_saves_is_alive_and_the_rest_is_not(x: Tensor) -> None:
    weight = nn.Parameter(torch.ones_like(x))
    with LiveStorages() as storages:
        # exp saves its output; the sum saves nothing, and what is negated is needed by nobody.
        loss = ((x * weight).exp() - 1).neg().sum()
    assert storages.alive_bytes(but=loss) == BYTES
    loss.backward()
    assert storages.alive_bytes(but=loss) == 0


def test_parameters_inputs_and_views_of_them_do_not_count(x: Tensor) -> None:
    weight = nn.Parameter(torch.ones_like(x))
    with LiveStorages() as storages:
        # Each factor is saved for the other one's gradient, and is somebody's parameter or input.
        loss = (x.view(10, -1) * weight.detach().requires_grad_().view(10, -1)).sum()
    assert storages.alive_bytes(but=loss) == 0


def test_a_storage_counts_once(x: Tensor) -> None:
    with LiveStorages() as storages:
        y = (x.requires_grad_() + 1).exp()
        views = [y.view(10, -1), y[:10], y.detach()]
        loss = sum((view.sum() for view in views), start=torch.zeros((), device=x.device))
    assert storages.alive_bytes(but=loss) == BYTES


def test_a_network_with_hooks_of_its_own(x: Tensor) -> None:
    """Two exponentials save two outputs; a hook that computes the first anew instead leaves one."""
    x.requires_grad_()

    def loss_of(forget: bool) -> Tensor:
        def pack(saved: Tensor) -> Tensor | None:
            return None if forget else saved

        def unpack(saved: Tensor | None) -> Tensor:
            return x.detach().exp() if saved is None else saved

        with saved_tensors_hooks(pack, unpack):
            y = x.exp()
        return y.exp().sum()

    for forget, kept in ((False, 2), (True, 1)):
        with LiveStorages() as storages:
            loss = loss_of(forget)
        assert storages.alive_bytes(but=loss) == kept * BYTES


def test_a_checkpoint_saves_nothing_inside() -> None:
    x = torch.ones(VOXELS, requires_grad=True)
    with LiveStorages() as storages:
        loss = checkpoint(lambda t: t.exp().exp().exp().sum(), x, use_reentrant=False)
    assert storages.alive_bytes(but=loss) == 0
