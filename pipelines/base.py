"""What a loader is: the types that pass between the data pipeline and the training loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

from pipelines.telemetry import BatchTimes

_T = TypeVar("_T")

Observer = Callable[[BatchTimes], None]


class Batch(NamedTuple):
    """One rank's batch of training patches, on the device the loader was built for.

    The tensors belong to the loader and are valid until the next batch is asked for: a loader may
    hand out the same buffers again. Clone what must live longer.
    """

    image: Tensor
    """float32 (or ``image_dtype``), N x 1 x D x H x W; ``channels_last_3d`` in memory for NDHWC."""
    label: Tensor
    """uint8, N x 1 x D x H x W: 0 background, 1 kidney, 2 tumour."""


class Volume(NamedTuple):
    """One whole evaluation case, on the device the loader was built for."""

    case: str
    """Name as in the file names: ``case_00003``."""
    image: Tensor
    """float32, 1 x 1 x D x H x W."""
    label: Tensor
    """uint8, 1 x 1 x D x H x W."""


class Neighbours(Protocol):
    """The ranks of one machine, as far as a loader needs them: they share what one of them has made."""

    def agree(self, make: Callable[[], _T]) -> _T:
        """What ``make`` returns on the first rank of this machine, on all of them.

        Collective: every rank calls it, in the same order. A DataError of ``make`` is raised on all.
        """
        ...


class _Nobody:
    """No other rank on this machine."""

    def agree(self, make: Callable[[], _T]) -> _T:
        return make()


ALONE: Neighbours = _Nobody()


@dataclass(frozen=True)
class Shard:
    """Which part of the data a process reads: rank ``rank`` of ``world_size``."""

    rank: int = 0
    world_size: int = 1
    neighbours: Neighbours = ALONE
    """The ranks that share this rank's memory."""


@dataclass(frozen=True)
class Position:
    """A place in the endless stream of batches: ``step`` batches of epoch ``epoch`` are behind us."""

    epoch: int = 1
    """Counted from 1, as MLPerf logs it."""
    step: int = 0
    """Batches of this rank already consumed in this epoch (micro-batches under accumulation)."""


BEGINNING = Position()


@dataclass(frozen=True)
class BadCase:
    """A case that could not be used, under ``--on_bad_case skip``."""

    case: str
    """``case_00003``."""
    reason: str
    """What was wrong with it when it was first met: one sentence, which names the file."""
    samples: int
    """Samples of this case that another case stands in for, on this rank. Their sum over all bad cases is the
    number of samples replaced; 0 where it was only tried in place of another bad case."""


class TrainLoader(Protocol):
    """Batches without end, so that prefetching does not stop at the border of an epoch."""

    @property
    def description(self) -> str:
        """What was chosen and where the data is kept, in a few words for the user."""
        ...

    @property
    def bad_cases(self) -> tuple[BadCase, ...]:
        """The bad cases met so far in batches handed out on this rank, in the order they were met."""
        ...

    bytes_read: int
    """Bytes asked from the operating system for the batches handed out so far, in whole pages."""
    observer: Observer | None
    """Told of every batch before it is handed out; a loader that makes none tells nothing."""

    def __iter__(self) -> Iterator[Batch]:
        """The stream from the position the loader was built with; never ends by itself."""
        ...

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        ...

    def close(self) -> None:
        """Stop workers and free buffers. May be called more than once."""
        ...


class EvalLoader(Protocol):
    """This rank's evaluation volumes, each exactly once per iteration."""

    def __iter__(self) -> Iterator[Volume]: ...

    def __len__(self) -> int:
        """Volumes of this rank."""
        ...

    def close(self) -> None:
        """Stop workers and free buffers. May be called more than once."""
        ...
