"""Counts what a training step dispatches, as a stand-in for the kernels that a GPU would be asked to launch.

Every operation below autograd counts once, however many kernels PyTorch makes of it. One of ours counts as
the kernels that it launches, ``LAUNCHES`` of its package: ours are counted in full, PyTorch's at the least.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch._ops import OpOverload
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from model import ops

OURS = "voxelrate"
"""Namespace of our operations."""
PARTS = ("forward", "loss", "backward", "optimizer", "other")
"""Of a step; other is what comes before and after them."""
_SILENT = frozenset({"prim", "profiler"})
"""Namespaces of questions about a tensor and of a profiler's labels: nothing is computed."""
_ALLOCATIONS = frozenset(
    {
        "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty",
        "aten::new_empty_strided", "aten::_unsafe_view",
    }
)  # fmt: skip


def launches_of_ops() -> dict[str, int]:
    """Kernels of each of our operations, by its name: the ``LAUNCHES`` of all packages of `model.ops`."""
    launches: dict[str, int] = {}
    for package in pkgutil.iter_modules(ops.__path__):
        module = importlib.import_module(f"{ops.__name__}.{package.name}")
        launches |= getattr(module, "LAUNCHES", {})
    return launches


class LaunchCount(TorchDispatchMode):
    """While it is on, counts operations by the part of the step that they belong to.

    Args:
        launches: Kernels of custom operations, by name (``voxelrate::x``).
    """

    def __init__(self, launches: Mapping[str, int]) -> None:
        super().__init__()
        self._launches = launches
        self.part = "other"
        self.dispatches: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
        """Of each part, how often each operation was dispatched; views and allocations too."""
        self._idle: set[str] = set()

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace not in _SILENT:
            name = func._schema.name
            if func.namespace == OURS and name not in self._launches:
                raise KeyError(f"{name} has no number of kernels: its package's LAUNCHES lacks it")
            self.dispatches[self.part][name] += 1
            if func.is_view or name in _ALLOCATIONS:
                self._idle.add(name)
        return func(*args, **(kwargs or {}))

    def follow(self, model: nn.Module, loss: nn.Module, optimizer: Optimizer) -> None:
        """Let the parts of a step begin and end with calls of these."""

        def begin(part: str) -> Any:
            def hook(*arguments: Any) -> None:
                self.part = part

            return hook

        model.register_forward_pre_hook(begin("forward"))
        loss.register_forward_pre_hook(begin("loss"))
        loss.register_forward_hook(begin("backward"))
        optimizer.register_step_pre_hook(begin("optimizer"))
        # The last of its hooks: copies of weights that follow the optimizer are its own.
        optimizer.register_step_post_hook(begin("other"))

    def total(self, part: str | None = None, *, idle: bool = False, kernels: bool = True) -> int:
        """Launches of a part, or of all.

        Args:
            part: One of ``PARTS``.
            idle: Whether views and allocations count, which launch nothing.
            kernels: Whether an operation of ours counts as the kernels that it launches, or once like others.
        """
        return sum(
            times * (self._launches.get(name, 1) if kernels else 1)
            for each in (PARTS if part is None else (part,))
            for name, times in self.dispatches[each].items()
            if idle or name not in self._idle
        )

    def by_operation(self) -> dict[str, int]:
        """How often each operation was dispatched, the most frequent first; without views and allocations."""
        every: Counter[str] = sum(self.dispatches.values(), Counter())
        return {name: times for name, times in every.most_common() if name not in self._idle}
