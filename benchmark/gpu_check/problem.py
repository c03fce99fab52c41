"""A call of an operation as a problem: its inputs, and how it is solved in one way or another."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmark.gpu_check.scale import ndhwc

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What to compute, from what."""

    run: Callable[[Tensors, str], Tensors]
    """Outputs by name, of inputs by name, by ``triton``, ``reference`` or ``native``."""
    inputs: Tensors
    of_samples: frozenset[str]
    """The inputs whose first axis is that of the samples; the others are weights."""
    wanted: tuple[str, ...]
    """The inputs whose gradients are wanted."""
    upstream: Tensors
    """Gradients of outputs, by name."""
    means: frozenset[str] = frozenset()
    """The outputs that are means over the samples; the others have them on their first axis."""

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self.inputs[next(iter(self.of_samples))])

    def is_sum(self, name: str) -> bool:
        """Whether an output, or the gradient ``d_<name>`` of an input, is a sum or mean over the samples."""
        inputs = name.removeprefix("d_")
        return name in self.means or (name.startswith("d_") and inputs not in self.of_samples)

    def sample(self, number: int) -> "Problem":
        """The part of the problem that is of one sample; what is summed over samples adds up to the whole."""
        own = slice(number, number + 1)
        return replace(
            self,
            inputs={k: v[own] if k in self.of_samples else v for k, v in self.inputs.items()},
            upstream={k: v / self.samples if k in self.means else v[own] for k, v in self.upstream.items()},
        )

    def exact(self) -> "Problem":
        """The same in float64."""
        return replace(
            self,
            inputs={k: v.double() if v.is_floating_point() else v for k, v in self.inputs.items()},
            upstream={k: v.double() for k, v in self.upstream.items()},
        )

    def forward(self, backend: str) -> Tensors:
        """Outputs, without what a backward pass would need."""
        with torch.no_grad():
            return self.run(self.inputs, backend)

    def solve(self, backend: str) -> Tensors:
        """Outputs, and the gradients of the wanted inputs as ``d_<name>``."""
        leaves = {k: v.detach().requires_grad_(k in self.wanted) for k, v in self.inputs.items()}
        outputs = self.run(leaves, backend)
        if not self.wanted:
            return outputs
        names = list(self.upstream)
        found = torch.autograd.grad(
            [outputs[name] for name in names],
            [leaves[name] for name in self.wanted],
            [self.upstream[name] for name in names],
        )
        gradients = {f"d_{name}": value for name, value in zip(self.wanted, found, strict=True)}
        return {k: v.detach() for k, v in outputs.items()} | gradients


@dataclass(frozen=True)
class Maker:
    """Makes inputs of one dtype on one device; weights stay in float32, rounded to that dtype beforehand."""

    dtype: torch.dtype
    device: torch.device
    seed: int = 0

    def activations(self, number: int, *shape: int) -> Tensor:
        """N x C x D x H x W."""
        return ndhwc(shape, self.dtype, self.device, 10 * self.seed + number)

    def weights(self, number: int, *shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
        """Parameters, as autocast meets them."""
        generator = torch.Generator(self.device).manual_seed(10 * self.seed + number)
        noise = torch.randn(shape, device=self.device, generator=generator)
        return (noise * scale + offset).to(self.dtype).float()
