"""Launches are counted by part, ours as the kernels that they launch, and views not at all."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from benchmark.step.launches import LaunchCount, launches_of_ops

with_kernels = torch.library.Library("voxelrate", "FRAGMENT")
with_kernels.define("counted_in_tests(Tensor x) -> Tensor")
with_kernels.impl("counted_in_tests", lambda x: x + 1, "CPU")
with_kernels.impl("counted_in_tests", torch.empty_like, "Meta")


class Halves(nn.Module):
    """Two operations and a view on the way to the output, three and a view in its loss."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale).view(2, 8).relu()


class Loss(nn.Module):
    def forward(self, y: Tensor, label: Tensor) -> Tensor:
        return (y - label.t()).square().mean()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_parts_of_a_step(device: str) -> None:
    model, loss = Halves(device), Loss()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
    x, label = torch.ones(4, 4, device=device), torch.ones(8, 2, device=device)
    count = LaunchCount({})
    for step in range(2):
        with count:
            loss(model(x), label).backward()
            optimizer.step()
            optimizer.zero_grad()
            torch.neg(x)
        if step == 0:
            count = LaunchCount({})
            count.follow(model, loss, optimizer)
    assert dict(count.dispatches["forward"]) == {
        "aten::mul": 1,
        "aten::view": 1,
        "aten::relu": 1,
        "aten::detach": 1,
    }
    assert (count.total("forward"), count.total("forward", idle=True)) == (2, 4)
    assert (count.total("loss"), count.total("loss", idle=True)) == (3, 4)
    # Momentum in place, its sum with the gradient, and the parameter.
    assert dict(count.dispatches["optimizer"]) == {"aten::mul_": 1, "aten::add_": 2}
    assert dict(count.dispatches["other"]) == {"aten::neg": 1}
    # The mean, the square (2 * y * gradient), the difference, relu and the sum over the product with x.
    backward = count.dispatches["backward"]
    assert backward["aten::threshold_backward"] == 1
    assert backward["aten::mul"] == 3
    assert count.total() == sum(count.total(part) for part in count.dispatches)
    assert count.total(idle=True) > count.total()
    assert list(count.by_operation().values()) == sorted(count.by_operation().values(), reverse=True)
    assert sum(count.by_operation().values()) == count.total()


def test_ours_count_as_their_kernels() -> None:
    x = torch.ones(3, device="meta")
    with LaunchCount({"voxelrate::counted_in_tests": 5}) as count:
        torch.ops.voxelrate.counted_in_tests(x)
        torch.ops.voxelrate.counted_in_tests(x.relu())
    assert (count.total(), count.total(kernels=False)) == (11, 3)
    assert count.by_operation() == {"voxelrate::counted_in_tests": 2, "aten::relu": 1}


def test_an_operation_of_ours_without_a_number_is_refused() -> None:
    with (
        LaunchCount({}),
        pytest.raises(KeyError, match="voxelrate::counted_in_tests has no number of kernels"),
    ):
        torch.ops.voxelrate.counted_in_tests(torch.ones(3, device="meta"))


def test_questions_and_labels_launch_nothing() -> None:
    with LaunchCount({}) as count:
        with torch.profiler.record_function("a label"):
            torch.empty(3)
        torch.zeros(3)
    assert count.by_operation() == {"aten::zeros": 1}
    assert count.total(idle=True) == 2


def test_all_packages_say_what_they_launch() -> None:
    launches = launches_of_ops()
    assert {name.split("::")[0] for name in launches} == {"voxelrate"}
    for name in ("instance_norm_relu", "instance_norm_relu_backward", "up_join", "dice_ce"):
        assert launches[f"voxelrate::{name}"] >= 1
