"""Writes checkpoints while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtime.checkpoint import write_checkpoint
from runtime.errors import RunError
from runtime.generations import shifts


class CheckpointWriter:
    """Writes in a thread of its own, one checkpoint at a time, and keeps the ones before.

    One that cannot be written, on a full disk, is a warning: training goes on, and what was written before
    stays. So does it where the weights to save are not finite, which are no state to go on from.

    Args:
        path: Of the newest.
        keep: Checkpoints to keep, the newest counted.
        say: Takes warnings.
    """

    def __init__(self, path: Path, keep: int, say: Callable[[str], None]) -> None:
        self._path, self._keep, self._say = path, keep, say
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None
        self._fault: RunError | None = None

    def write(self, content: dict[str, Any]) -> None:
        """Begin to write ``content``, host memory that nobody changes; waits only for the one before."""
        self.wait()
        self._under_way = self._thread.submit(self._write, content)

    def wait(self) -> None:
        """Until nothing is being written; what went wrong is said."""
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return
        try:
            under_way.result()
            self._fault = None
        except RunError as error:
            self._fault = error
            self._say(f"warning: {error}")

    def finish(self) -> None:
        """Wait for the last.

        Raises:
            RunError: It could not be written.
        """
        self.wait()
        if self._fault:
            raise self._fault

    def say_written(self, what: str) -> None:
        """Wait for the last, and say that ``what`` was saved, if it was."""
        self.wait()
        if self._fault is None:
            self._say(f"saved {what} to {self._path}")

    def close(self) -> None:
        """Wait, and end the thread. May be called more than once."""
        self.wait()
        self._thread.shutdown()

    def _write(self, content: dict[str, Any]) -> None:
        for name, value in content.get("last_model_state_dict", {}).items():
            if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
                raise RunError(
                    f"{self._path}: not written, since {name} is not finite; the one before is kept"
                )
        write_checkpoint(self._path, content, shifts(self._path, self._keep))
