"""What the page shows of one measurement: its findings, and the steps they were made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmark.page.node import Array, Estimate, Node
from benchmark.record import Record

ARMS = {
    "loader": "loader alone",
    "step": "training step alone",
    "both": "together",
    "loader-cold": "loader alone, empty page cache",
    "both-cold": "together, empty page cache",
    "step-local": "training step alone, gradients not averaged",
}
"""What was run in a window, by the record's name for it."""

SHOWN = 4
"""Of several profiles, so many are shown with every step and every metric."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One window of one arm; durations in seconds."""

    arm: str
    process: int
    round: int
    warmup: Array
    steps: Array
    wait: Array
    stall: Array
    ready: Array
    """Finished batches at each request."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One measurement, or one point of a sweep that was measured."""

    number: int
    """Counted from 1 over everything on the page."""
    name: str
    """With the number in front, where there is more than one."""
    sweep: str
    """What tells the sweep it is a point of from others on the page; empty where there is no need."""
    flags: Mapping[str, str]
    """What the sweep set for this point; empty outside a sweep."""
    results: Node
    phases: tuple[Phase, ...]
    """Empty where they are not beside the sweep's record."""

    @cached_property
    def findings(self) -> Node:
        """What was made of the steps."""
        return self.results.child("findings")

    @cached_property
    def rates(self) -> dict[str, Node]:
        """By arm, those known to this page first and in its order."""
        found = dict(self.findings.child("rates").items())
        return {
            arm: found[arm]
            for arm in [*(a for a in ARMS if a in found), *(a for a in found if a not in ARMS)]
        }

    def rate(self, arm: str) -> Estimate:
        """Images/s of an arm; None where it was not measured."""
        node = self.rates.get(arm)
        return Estimate(None, None, None) if node is None else node.as_estimate("images_per_s")

    def of(self, arm: str) -> list[Phase]:
        """The windows of an arm, in the order in which they ran."""
        return [phase for phase in self.phases if phase.arm == arm]

    @property
    def patch(self) -> tuple[int, ...]:
        """Voxels in each direction."""
        return tuple(int(edge) for edge in self.results.numbers("patch"))


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A point of a sweep without results."""

    number: int
    name: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Everything that the page shows."""

    records: tuple[tuple[str, Record], ...]
    """As they were given, with a label each."""
    profiles: tuple[Profile, ...]
    failures: tuple[Failure, ...]
    remarks: tuple[str, ...]
    """What sweeps found, in a sentence each."""
    notices: tuple[str, ...]
    """What to know before believing it."""

    @cached_property
    def fastest(self) -> tuple[Profile, ...]:
        """All profiles, the highest rate together first."""
        return tuple(sorted(self.profiles, key=lambda profile: -(profile.rate("both").value or 0.0)))

    @cached_property
    def shown(self) -> tuple[Profile, ...]:
        """At most ``SHOWN``: the fastest, the slowest, and those evenly between."""
        last = len(self.fastest) - 1
        if last < SHOWN:
            return self.fastest
        return tuple(self.fastest[round(last * place / (SHOWN - 1))] for place in range(SHOWN))

    @property
    def alone(self) -> bool:
        """Whether there is a single thing to show."""
        return len(self.profiles) + len(self.failures) == 1


def phases_of(results: Node) -> tuple[Phase, ...]:
    """The windows of a profile's results.

    Raises:
        DataError: One of them is not as it should be.
    """

    def seconds(node: Node, key: str) -> Array:
        return node.numbers(key) / 1e6

    return tuple(
        Phase(
            arm=node.text("arm"),
            process=node.whole("process"),
            round=node.whole("round"),
            warmup=seconds(node, "warmup_us"),
            steps=seconds(node, "step_us"),
            wait=seconds(node, "wait_us"),
            stall=seconds(node, "stall_us"),
            ready=node.numbers("ready"),
        )
        for node in results.children("phases")
    )


def joined(arrays: list[Array]) -> Array:
    """One array after the other; empty for none."""
    return np.concatenate(arrays) if arrays else np.zeros(0)
