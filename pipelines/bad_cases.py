"""What a run does with a case that turns out bad: it stops, or another case stands in for it."""

import bisect
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

from pipelines.base import BadCase
from pipelines.errors import CaseError, DataError

_T = TypeVar("_T")

OnBadCase = Literal["stop", "skip"]
"""``stop`` raises what is wrong with it; ``skip`` replaces the sample."""


class Met(NamedTuple):
    """A bad case that was met on the way to a sample."""

    case: str
    reason: str


class Good(NamedTuple, Generic[_T]):
    """A sample, or a part of one, made of the first case that allowed it."""

    case: int
    made: _T
    met: tuple[Met, ...]
    """The bad cases before it, the scheduled one first; empty where that was good."""


class Substitutes:
    """The cases that stand in for each other.

    The substitute of a case is the next one in the order of their numbers, after the last the first; where
    that is bad as well, the next. Nothing is remembered: a bad case is tried again whenever it is drawn, so
    that a run goes on alike after a restart, and uses a file that was repaired.

    Args:
        names: Of all training cases.
        own: The numbers of those that this rank reads, ascending.
        on_bad_case: See ``OnBadCase``.
    """

    def __init__(self, names: Sequence[str], own: Sequence[int], on_bad_case: OnBadCase) -> None:
        self._names, self._own, self._on_bad_case = tuple(names), tuple(own), on_bad_case

    def first_good(self, case: int, make: Callable[[int], _T]) -> Good[_T]:
        """What ``make`` returns for ``case``, or for the first substitute for which it raises no CaseError.

        Raises the CaseError itself under ``stop``; under ``skip`` DataError, if no case is good.
        """
        begin = bisect.bisect_left(self._own, case)
        met: list[Met] = []
        for candidate in self._own[begin:] + self._own[:begin]:
            try:
                return Good(candidate, make(candidate), tuple(met))
            except CaseError as error:
                if self._on_bad_case == "stop":
                    raise
                met.append(Met(self._names[candidate], str(error)))
        raise DataError(
            f"--on_bad_case skip has no good case left: all {len(met)} training cases of this rank are bad; "
            f"{met[0].case}: {met[0].reason}"
        )


class Ledger:
    """Counts what was replaced in the batches that a loader has handed out."""

    def __init__(self) -> None:
        self._found: dict[str, BadCase] = {}

    def add(self, samples: Iterable[tuple[Met, ...]]) -> None:
        """Count the samples of a batch, each by the bad cases that were met on the way to it."""
        for met in samples:
            for place, (case, reason) in enumerate(met):
                before = self._found.get(case, BadCase(case, reason, 0))
                self._found[case] = BadCase(case, before.reason, before.samples + (place == 0))

    @property
    def cases(self) -> tuple[BadCase, ...]:
        """See ``TrainLoader.bad_cases``."""
        return tuple(self._found.values())
