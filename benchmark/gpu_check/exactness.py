"""Kernels against float64: how far from it they are, and PyTorch's own path in the same dtype is."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmark.gpu_check import problems
from benchmark.gpu_check.problem import Maker, Problem
from benchmark.gpu_check.scale import Scale, dtype_of

TIMES_NATIVE = 2.0
"""A kernel may be so many times as far from float64 as PyTorch's own path."""
FLOOR = 1e-6
"""And is right in any case where it is as near as this, relative to the whole."""
REPEATED_BELOW = 1 << 30
"""Elements of the first input up to which the kernels run twice, for the same bits."""


@dataclass
class Distance:
    """From the truth: in the norm, and at the worst element relative to the largest."""

    squares: float = 0.0
    squares_of_truth: float = 0.0
    largest: float = 0.0
    largest_of_truth: float = 0.0

    def add(self, found: Tensor, truth: Tensor) -> None:
        """Another part of the same tensor."""
        difference = found.double() - truth
        self.squares += difference.square().sum().item()
        self.squares_of_truth += truth.square().sum().item()
        # max() of Python would lose a NaN.
        self.largest = torch.tensor([self.largest, difference.abs().max().item()]).max().item()
        self.largest_of_truth = max(self.largest_of_truth, truth.abs().max().item())

    @property
    def norm(self) -> float:
        """Relative, in the 2-norm."""
        return _relative(math.sqrt(self.squares), math.sqrt(self.squares_of_truth))

    @property
    def worst(self) -> float:
        """Relative, of the worst element."""
        return _relative(self.largest, self.largest_of_truth)


def _relative(error: float, size: float) -> float:
    return error / size if size else error


@dataclass
class Pair:
    """The distances of a kernel's result and of PyTorch's."""

    kernel: Distance = field(default_factory=Distance)
    native: Distance = field(default_factory=Distance)

    @property
    def right(self) -> bool:
        """Whether the kernel's is near enough; a NaN is not."""
        return all(
            found <= TIMES_NATIVE * native + FLOOR
            for found, native in (
                (self.kernel.norm, self.native.norm),
                (self.kernel.worst, self.native.worst),
            )
        )

    def values(self) -> dict[str, float | None]:
        """For a record."""
        numbers = {
            "kernel": self.kernel.norm,
            "native": self.native.norm,
            "kernel_worst": self.kernel.worst,
            "native_worst": self.native.worst,
        }
        return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


@contextmanager
def filled_with_nan() -> Iterator[None]:
    """Fresh tensors are NaN (integers their largest) and not whatever was there, by torch's own switch."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def compare(problem: Problem, backend: str = "triton") -> dict[str, Any]:
    """Solve by kernels, by PyTorch and in float64, and compare outputs and gradients.

    The last goes sample by sample, so that memory does for float64; where there are very many, so does
    PyTorch.
    """
    with filled_with_nan():
        found = problem.solve(backend)
        twice = problem.inputs[next(iter(problem.inputs))].numel() <= REPEATED_BELOW
        again = problem.solve(backend) if twice else found
    whole = problem.solve("native") if twice else None
    unequal = [name for name in found if not torch.equal(found[name], again[name])]
    del again
    pairs = {name: Pair() for name in found}
    sums: dict[str, list[Tensor]] = {}
    for number in range(problem.samples):
        part = problem.sample(number)
        native = part.solve("native") if whole is None else {}
        truth = part.exact().solve("reference")
        for name, value in truth.items():
            if problem.is_sum(name):
                share = problem.samples if name in problem.means else 1
                _add(sums, name, (native[name] if native else value).double() / share, value / share)
            else:
                own = slice(number, number + 1)
                pairs[name].kernel.add(found[name][own], value)
                pairs[name].native.add(whole[name][own] if whole else native[name], value)
    for name, (native_sum, truth_sum) in sums.items():
        pairs[name].kernel.add(found[name], truth_sum)
        pairs[name].native.add(whole[name] if whole else native_sum, truth_sum)
    wrong = [name for name, pair in pairs.items() if not pair.right]
    return {
        "errors": {name: pair.values() for name, pair in pairs.items()},
        "repeatable": not unequal if twice else None,
        "wrong": wrong + [f"{name} not repeatable" for name in unequal if name not in wrong],
    }


def _add(sums: dict[str, list[Tensor]], name: str, native: Tensor, truth: Tensor) -> None:
    """Another sample's part of both sums."""
    if name in sums:
        sums[name][0].add_(native)
        sums[name][1].add_(truth)
    else:
        sums[name] = [native.clone(), truth.clone()]


def plain_float32() -> None:
    """No TF32: PyTorch's own path is then as near to float64 as float32 can be."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def measure(scale: Scale, op: str, dtype: str, shape: dict[str, int]) -> dict[str, Any]:
    """One operation at one shape in one dtype."""
    plain_float32()
    maker = Maker(dtype_of(dtype), scale.device)
    values = compare(getattr(problems, op)(maker, **shape))
    return {"op": op, "dtype": dtype, **shape, **values}
