"""Instance norm and activation as one module, which can forget its output until the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor, nn

from model.ops import FusedBackend
from model.ops.instance_norm_relu import instance_norm_relu, instance_norm_relu_joined, normalize

NEGATIVE_SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "none": 1.0}
"""Slope of each activation below zero."""

_RECIPE = "_voxelrate_recipe"
"""Attribute of a norm's output: how to compute it again from what is kept anyway."""


class _Options(TypedDict):
    eps: float
    negative_slope: float
    backend: FusedBackend


class FusedInstanceNorm(nn.InstanceNorm3d):
    """``nn.InstanceNorm3d(affine=True)`` and the activation after it; its parameters are that module's."""

    weight: nn.Parameter
    bias: nn.Parameter
    leaves_recipe = False
    """Whether outputs can be computed again, see `recomputed_norms`."""

    def __init__(self, channels: int, negative_slope: float, backend: FusedBackend) -> None:
        super().__init__(channels, affine=True)
        self.negative_slope = negative_slope
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        arguments = (x, self.weight, self.bias)
        options: _Options = {"eps": self.eps, "negative_slope": self.negative_slope, "backend": self.backend}
        if not self._must_leave_recipe():
            return instance_norm_relu(*arguments, **options)
        y, mean, rstd = instance_norm_relu(*arguments, **options, with_statistics=True)
        self._leave_recipe(y, x, mean, rstd)
        return y

    def joined(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the concat buffer that holds it in its second half."""
        arguments = (x, self.weight, self.bias)
        options: _Options = {"eps": self.eps, "negative_slope": self.negative_slope, "backend": self.backend}
        if not self._must_leave_recipe():
            return instance_norm_relu_joined(*arguments, **options)
        y, buffer, mean, rstd = instance_norm_relu_joined(*arguments, **options, with_statistics=True)
        self._leave_recipe(y, x, mean, rstd)
        return y, buffer

    def _must_leave_recipe(self) -> bool:
        # A recipe keeps x as long as y lives, for nothing where there is no backward pass.
        return self.leaves_recipe and torch.is_grad_enabled()

    def _leave_recipe(self, y: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> None:
        recipe = partial(
            normalize,
            x.detach(),
            mean,
            rstd,
            self.weight.detach(),
            self.bias.detach(),
            negative_slope=self.negative_slope,
            backend=self.backend,
        )
        setattr(y, _RECIPE, recipe)


class _Recipe:
    """Stands for a saved tensor."""

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self.compute = compute


def _pack(tensor: Tensor) -> Tensor | _Recipe:
    recipe = getattr(tensor, _RECIPE, None)
    return tensor if recipe is None else _Recipe(recipe)


@torch.no_grad()
def _unpack(saved: Tensor | _Recipe) -> Tensor:
    return saved.compute() if isinstance(saved, _Recipe) else saved


@contextmanager
def recomputed_norms() -> Iterator[None]:
    """While this is on, outputs of `FusedInstanceNorm` that others save for their backward pass are not kept:
    they are computed again, to the same bits, from the norm's input, which the norm itself saves. The norms
    must leave recipes.

    The convolution after a norm saves that norm's output, so without this each activation of the network is
    kept twice. The price is one more pass (read and write) over each in the backward pass.
    """
    with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
        yield
