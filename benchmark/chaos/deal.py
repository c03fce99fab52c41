"""Which fault comes when: a function of the seed alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from benchmark.chaos.configurations import VARIANTS, Configuration
from benchmark.chaos.faults import FAULTS
from benchmark.chaos.faults.base import Fault

_WHILE_STARTING = 0.15
"""Part of the faults that may come before the first step and do."""


@dataclass(frozen=True)
class Plan:
    """A cycle that is to be gone through."""

    number: int
    """From 1."""
    fault: Fault
    configuration: Configuration
    moment: float
    """Where the fault comes: in [0, 1) of the time that training takes; below 0, in [-1, 0) of the time from
    ``main.py``'s first line to its first step."""
    random: Random
    """For all else that is left to chance."""

    @property
    def when(self) -> str:
        """The moment, in words."""
        phase, part = ("training", self.moment) if self.moment >= 0 else ("starting", 1 + self.moment)
        return f"{100 * part:.0f} % into {phase}"


def deal(seed: int) -> Iterator[Plan]:
    """Without end: round after round of all kinds, each round in an order of its own.

    Loaders alternate with rounds, variants of the configuration with every second, numbers of ranks with
    every fourth.
    """
    number = 0
    for turn in count():
        for index in Random(f"{seed} {turn}").sample(range(len(FAULTS)), len(FAULTS)):
            number += 1
            chance = Random(f"{seed} {turn} {index}")
            fault = FAULTS[index]()
            configuration = Configuration(
                loader=fault.loaders[(turn + index) % len(fault.loaders)],
                ranks=fault.ranks[(turn // 4 + index) % len(fault.ranks)],
                variant=list(VARIANTS)[turn // 2 % len(VARIANTS)],
            )
            starting = fault.while_starting and chance.random() < _WHILE_STARTING
            moment = -chance.random() if starting else chance.uniform(0.0, fault.latest)
            yield Plan(number, fault, configuration, moment, chance)
