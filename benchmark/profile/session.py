"""The rounds of a profile: its arms in turn, forwards and backwards, so that a drift meets all alike."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmark import residency
from benchmark.profile.phases import Instrument, Lengths, Phase
from benchmark.profile.subject import Subject

_RESIDENT = 2
"""Different batches that the step alone is given in turn."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a profile goes."""

    rounds: int
    lengths: Lengths
    cold: bool
    """Also from an empty page cache, once over the cases."""
    warm: bool
    """Read all files into the page cache before."""
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

    def run(self) -> None:
        """All rounds."""
        for number in range(self._course.rounds):
            if self._course.warm:
                residency.warm(self._course.files)
            self._warm_round(number)
            if self._course.cold:
                self._cold(number)

    def _warm_round(self, number: int) -> None:
        cache = "warm" if self._course.warm else "as found" if self._course.files else "none"
        with self._opened() as (loader, batches):
            self._look_at(loader, batches)
            arms: list[Callable[[], Phase]] = [
                lambda: self._instrument.loader(loader, batches, number, cache),
                lambda: self._instrument.step(self._resident, number),
                lambda: self._instrument.both(loader, batches, number, cache),
            ]
            if self._subject.ranks_average:
                arms.insert(2, lambda: self._instrument.step(self._resident, number, local=True))
            for arm in arms[:: 1 if number % 2 == 0 else -1]:
                self._note(arm())

    def _cold(self, number: int) -> None:
        """One pass over the cases for each arm: a second one would find their pages."""
        for measure in (self._instrument.loader, self._instrument.both):
            residency.drop(self._course.files)
            before = residency.resident_bytes(self._course.files)
            with self._opened() as (loader, batches):
                # The first step waits for the workers to start.
                steps = max(1, len(loader) // self._subject.config.loader.ga_steps - 1)
                phase = measure(loader, batches, number, "cold", warmup=1, exactly=steps)
                # By now the loader has read ahead.
                self._note(replace(phase, resident_before=before))

    def _look_at(self, loader: Any, batches: Iterator[Any]) -> None:
        """Take the first batches: to keep for the step alone, and to tell which pipeline this is."""
        if self._resident:
            return
        self.description = loader.description
        digest = hashlib.sha256()
        for batch in islice(batches, _RESIDENT):
            self._resident.append(self._subject.resident(batch))
            for part in _tensors(batch):
                digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        self.patches = digest.hexdigest()

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
    elif hasattr(batch, "__array__") or isinstance(batch, torch.Tensor):
        yield torch.as_tensor(batch)
