"""The memory that tensors made by operations still hold: what a forward pass leaves for the backward pass.

Hooks on saved tensors would miss it: only the innermost apply, and a network may have its own.
"""

import gc
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveStorages(TorchDispatchMode):
    """While it is on, takes note of each storage that an operation makes, without keeping it alive.

    Storages that exist beforehand (parameters, inputs) are not noted, nor are views of them: whatever an
    operation is given before any has made it was there already.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        # Weak references too: while one is held, the number is not given to another storage.
        self._given: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        for tensor in _tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._made:
                self._given.setdefault(storage._cdata, StorageWeakRef(storage))
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._given:
                self._made.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        return result

    def alive_bytes(self, *, but: Tensor) -> int:
        """Bytes of the storages made that are still alive, without that of ``but``."""
        gc.collect()
        left_out = but.untyped_storage()._cdata
        return sum(
            size
            for data, (reference, size) in self._made.items()
            if data != left_out and not reference.expired()
        )


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
