"""A double of a CUDA graph that runs on the CPU and is as strict as one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What makes a device answer to the host, or copies from pageable host memory: a capture refuses these.
FORBIDDEN = {
    "aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero", "aten::lift_fresh",
}  # fmt: skip


class TapeRecorder:
    """Keeps which operators ran on which memory, and nothing of Python.

    As with a CUDA graph, a recorded step has no effect until it is replayed, its results hold rubbish until
    then, numbers of Python are those of the recording, and tensors are places, whose content is the
    replay's.
    """

    def __init__(self) -> None:
        self.captures = self.replays = 0
        self.is_beside = False
        self._tape = _Tape()

    @contextmanager
    def beside(self) -> Iterator[None]:
        self.is_beside = True
        yield
        self.is_beside = False

    def capture(self, work: Callable[[], Tensor]) -> Tensor:
        assert not self.is_beside
        self.captures += 1
        with self._tape:
            result = work()
        self._tape.undo()
        return result

    def replay(self) -> None:
        self.replays += 1
        self._tape.play()

    def release(self) -> None:
        self._tape = _Tape()


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self._overwritten: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler":  # record_function: names of what the host does
            return func(*args, **kwargs)
        if func._schema.name in FORBIDDEN:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func._schema.name}")
        self._overwritten.extend((tensor, tensor.clone()) for tensor in _written(func, args, kwargs))
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def undo(self) -> None:
        for tensor, before in reversed(self._overwritten):
            tensor.copy_(before)
        self._overwritten.clear()
        for _, args, kwargs, result in self.calls:
            for made in _made(result, args, kwargs):
                made.fill_(float("nan") if made.is_floating_point() else 77)

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for place, value in zip(_made(result, args, kwargs), _made(again, args, kwargs), strict=True):
                place.copy_(value)


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    if func._schema.name == "aten::native_batch_norm":  # whose schema keeps it back
        return [tensor for tensor in args[3:5] if tensor is not None]
    written = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            written.extend(leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
    return written


def _made(result: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors of a result that are memory of their own, no views of the arguments."""
    given = {_memory(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and _memory(leaf) not in given]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
