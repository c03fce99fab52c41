"""The rounds of a profile: its arms in turn, forwards and backwards, so that a drift meets all alike."""

import contextlib
import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark import residency
from benchmark.profile.phases import Instrument, Lengths, Phase
from benchmark.profile.subject import Subject
from runtime.distributed_utils import barrier

_RESIDENT = 2
"""Different batches that the step alone is given in turn."""
_WARM = 0.99
"""Part of the data's pages that have to be cached for it to be called warm."""
_WARMUP_EPOCHS = 4
"""Of 40 % biased crops, after which seven in eight cases have had their boxes found."""
_WARMUP_LIMIT_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a profile goes."""

    rounds: int
    lengths: Lengths
    cold: bool
    """Also from an empty page cache, once over the cases."""
    warm: bool
    """Read all files into the page cache first."""
    files: Sequence[Path]
    """Data files that the loader reads, if that is known."""
    queue: int
    """Batches that may be ready at a time."""
    process: int


class Rounds:
    """Measures; what is done so far can be asked for at any time, also after an interruption."""

    def __init__(self, subject: Subject, course: Course, say: Say) -> None:
        self._subject, self._course, self._say = subject, course, say
        self._instrument = Instrument(subject, course.lengths, course.queue, course.files, course.process)
        self._resident: list[Any] = []
        self.phases: list[Phase] = []
        self.description = ""
        """What the loader says of itself."""
        self.patches = ""
        """SHA-256 of the first batches that the loader gave: the same for the same pipeline and seed."""

    @property
    def gpu_states(self) -> list[dict[str, Any]]:
        """See ``Instrument``."""
        return self._instrument.gpu_states

    def run(self) -> None:
        """All rounds: one loader for those that do not start cold, then a new one for each that does."""
        cache = "none"
        if self._course.files:
            cache = "as found"
            if self._course.warm and residency.warm(self._course.files) > _WARM:
                cache = "warm"
        self._warm_rounds(cache)
        if self._instrument.disturbed:
            self._say(
                f"note: {self._instrument.disturbed} windows of the step alone began beside a busy loader"
            )
        for number in range(self._course.rounds if self._course.cold else 0):
            arms = [self._instrument.loader, self._instrument.both]
            for measure in arms[:: 1 if number % 2 == 0 else -1]:
                self._cold(measure, number)

    def _warm_rounds(self, cache: str) -> None:
        with self._opened() as (loader, batches):
            self._look_at(loader, batches)
            self._warm_up(loader, batches)
            for number in range(self._course.rounds):
                arms: list[Callable[[int], Phase]] = [
                    lambda number: self._instrument.loader(loader, batches, number, cache),
                    lambda number: self._instrument.step(self._resident, number),
                    lambda number: self._instrument.both(loader, batches, number, cache),
                ]
                if self._subject.ranks_average:
                    arms.insert(2, lambda number: self._instrument.step(self._resident, number, local=True))
                for arm in arms[:: 1 if number % 2 == 0 else -1]:
                    self._note(arm(number))

    def _cold(self, measure: Callable[..., Phase], number: int) -> None:
        """One pass over the cases: a second one would find their pages."""
        gc.collect()  # a loader's mappings hold pages as long as anybody holds them
        barrier(self._subject.world)
        residency.drop(self._course.files)
        barrier(self._subject.world)
        before = residency.resident_bytes(self._course.files)
        with self._opened() as (loader, batches):
            # The first step waits for the workers to start.
            steps = max(1, len(loader) // self._subject.config.loader.ga_steps - 1)
            phase = measure(loader, batches, number, "cold", warmup=1, exactly=steps)
            # By now the loader has read ahead.
            self._note(replace(phase, resident_before=before))

    def _look_at(self, loader: Any, batches: Iterator[Any]) -> None:
        """Take the first batches: to keep for the step alone, and to tell which pipeline this is."""
        self.description = loader.description
        digest = hashlib.sha256()
        for batch in islice(batches, _RESIDENT):
            self._resident.append(self._subject.resident(batch))
            for part in _tensors(batch):
                digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        self.patches = digest.hexdigest()

    def _warm_up(self, loader: Any, batches: Iterator[Any]) -> None:
        """Meet the cases a few times, for what a loader does once for each: caches, boxes of foreground."""
        if self._subject.loader_name == "synthetic":
            return
        begin, taken = time.monotonic(), 0
        epoch = len(loader) if hasattr(type(loader), "__len__") and self._course.files else 0
        while taken < _WARMUP_EPOCHS * epoch and time.monotonic() - begin < _WARMUP_LIMIT_S:
            next(batches)
            taken += 1
        self._say(f"warm-up: {taken} batches in {time.monotonic() - begin:.1f} s, {epoch} are an epoch")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        loader = self._subject.loader()
        try:
            yield loader, iter(loader)
        finally:
            loader.close()

    def _note(self, phase: Phase) -> None:
        self.phases.append(phase)
        images = self._subject.session.global_batch_size * len(phase.step_us)
        self._say(
            f"round {phase.round + 1} of {self._course.rounds}: {phase.arm} {images / phase.window_s:.4g} "
            f"images/s ({len(phase.step_us)} steps in {phase.window_s:.1f} s)"
        )


def _tensors(batch: Any) -> Iterator[torch.Tensor]:
    """The arrays in a batch of any kind, in order."""
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        for part in batch:
            yield from _tensors(part)
    elif isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, np.ndarray) and batch.dtype.kind in "biuf":
        yield torch.as_tensor(batch)
