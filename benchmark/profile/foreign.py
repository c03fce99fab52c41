"""Somebody else's loader or step on this instrument: ``--loader package.module:factory``, ``--step ...``.

The loader's factory has the signature of ``pipelines.data_loader.build``: ``factory(config, shard, device)``,
with a ``LoaderConfig``, a ``Shard`` and a ``torch.device``. What it returns is iterable (``__iter__``:
batches; where it ends, the next epoch iterates again) and may have ``close()`` and a number ``bytes_read``.
With our training step a batch is a pair (image, label), N x 1 x D x H x W; with somebody else's step it may
be anything whose first array has N rows.

The step's factory is called as ``factory(config, device)``, with a ``RunConfig``; what it returns is called
with a batch for each micro-batch, and need not wait for the device.
"""

import importlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from pipelines.base import Batch, Observer, Shard
from pipelines.config import LoaderConfig
from pipelines.errors import DataError
from pipelines.slots import with_layout


def find(flag: str, name: str) -> Callable[..., Any]:
    """What ``package.module:attribute`` names.

    Raises:
        DataError: there is no such module or attribute, or it cannot be called.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise DataError(
            f"{flag} {name}: no module named {error.name!r}; start where it can be found, or set PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise DataError(f"{flag} {name}: {module} has no {attribute!r}") from error
    if not callable(found):
        raise DataError(f"{flag} {name} is a {type(found).__name__}, expected something to call")
    return found


class ForeignLoader:
    """Makes a ``TrainLoader`` of what a factory returns.

    Args:
        name: ``package.module:factory``.
        config: For the factory.
        shard: For the factory.
        device: For the factory, and where our step wants its batches.
        for_our_step: Turn what it delivers into batches of ours, on ``device``.
    """

    def __init__(
        self, name: str, config: LoaderConfig, shard: Shard, device: torch.device, *, for_our_step: bool
    ) -> None:
        self._name, self._config, self._device, self._ours = name, config, device, for_our_step
        with _Naming(f"--loader {name}"):
            self._loader = find("--loader", name)(config, shard, device)
        self.description = name
        self.observer: Observer | None = None

    @property
    def bytes_read(self) -> int | None:
        """What the loader says; None where it says nothing."""
        value = getattr(self._loader, "bytes_read", None)
        return None if value is None else int(value)

    def __iter__(self) -> Iterator[Any]:
        while True:
            empty = True
            with _Naming(f"--loader {self._name}"):
                batches = iter(self._loader)
            while True:
                with _Naming(f"--loader {self._name}"):
                    batch = next(batches, None)
                if batch is None:
                    break
                self._check(batch)
                empty = False
                yield self._for_our_step(batch) if self._ours else batch
            if empty:
                raise DataError(
                    f"--loader {self._name} ended without a single batch: expected at least one each time it "
                    "is iterated"
                )

    def __len__(self) -> int:
        try:
            return len(self._loader)
        except TypeError as error:
            raise DataError(
                f"--loader {self._name} does not tell its length, so --cold cannot tell when it has seen "
                "every case once: give it __len__, batches of one epoch"
            ) from error

    def close(self) -> None:
        """The loader's own, where it has one."""
        close = getattr(self._loader, "close", None)
        if close:
            close()

    def _check(self, batch: Any) -> None:
        if (rows := _rows(batch)) is None:
            raise DataError(f"--loader {self._name} delivers {type(batch).__name__} without any array")
        if rows != self._config.batch_size:
            raise DataError(
                f"--loader {self._name} delivers a batch of {rows}, but --batch_size is "
                f"{self._config.batch_size}: pass --batch_size {rows}, or drop an epoch's short last batch"
            )

    def _for_our_step(self, batch: Any) -> Batch:
        try:
            image, label = (torch.as_tensor(part) for part in batch)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"--loader {self._name} delivers {type(batch).__name__}, which is no pair (image, label) of "
                "arrays: give its own step with --step"
            ) from error
        shape = (self._config.batch_size, 1, *self._config.input_shape)
        if image.shape != shape or label.shape != shape:
            raise DataError(
                f"--loader {self._name} delivers {tuple(image.shape)} and {tuple(label.shape)}, expected "
                f"twice {shape}: see --input_shape, or give its own step with --step"
            )
        dtype = getattr(torch, self._config.image_dtype)
        image = image.to(self._device, dtype, non_blocking=True).contiguous()
        label = label.to(self._device, torch.uint8, non_blocking=True)
        return Batch(with_layout(image, self._config.layout), label)


class ForeignStep:
    """What a factory made for a run; call it with a batch."""

    def __init__(self, name: str, config: Any, device: torch.device) -> None:
        self._name = name
        with _Naming(f"--step {name}"):
            self._step = find("--step", name)(config, device)

    def __call__(self, batch: Any) -> Any:
        with _Naming(f"--step {self._name}"):
            return self._step(batch)


class _Naming:
    """Makes a sentence of an exception in somebody else's code: where it was, and what it said."""

    def __init__(self, whose: str) -> None:
        self._whose = whose

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, DataError):
            frame = traceback.extract_tb(trace)[-1]
            raise DataError(
                f"{self._whose} raised {type(error).__name__} at {frame.filename}:{frame.lineno}: {error}"
            ) from error


def _rows(batch: Any) -> int | None:
    """N of the first array in a batch; None where there is none."""
    shape = getattr(batch, "shape", None)
    if shape is not None and len(shape):
        return int(shape[0])
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, Sequence) and not isinstance(batch, str | bytes):
        for part in batch:
            if (rows := _rows(part)) is not None:
                return rows
    return None
