"""What a fault is."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmark.chaos.configurations import Configuration
from benchmark.chaos.running import Run


class MissedError(Exception):
    """The run had ended, or there was nothing to hit: the fault is to be tried again, earlier."""


@dataclass
class Scene:
    """Where a fault is to happen."""

    configuration: Configuration
    folder: Path
    """Of the cycle."""
    data: Path
    """Folder of the cases: the cycle's own copy, where the fault is one of data."""
    pristine: Path
    """Folder of the same cases, which nobody touches."""
    checkpoint: Path
    """The newest one's name."""
    shared_memory: Path | None
    """What is /dev/shm for the run; None: the machine's."""
    random: Random
    undo: ExitStack = field(default_factory=ExitStack)
    """Closed when the disturbed run has ended: takes back what must not stay."""


class Fault:
    """A kind of fault: what happens, and what the documentation says of it. One object for each cycle."""

    name = ""
    ranks: Sequence[int] = (1, 2)
    """Numbers of ranks of the runs that it is for."""
    loaders: Sequence[str] = ("pytorch", "dali")
    flags: Sequence[str] = ()
    """Of the disturbed run; they change no result."""
    copies_data = False
    """Whether the run needs cases of its own."""
    needs_mounts = False
    """Whether it needs file systems of its own."""
    disk_bytes = 0
    """Size of a disk of its own for checkpoints; 0: it needs none."""
    while_starting = True
    """Whether it may come between ``main.py``'s first line and its first step."""
    latest = 0.95
    """Fraction of the training after which it comes too late to show."""
    limit_s = 30.0
    """From the fault to the end of the run."""
    statuses: Sequence[int] = ()
    """With which a rank may end: of several, those that a launcher saw end first."""
    says = ""
    """What the last line on standard error of a rank matches that ended with a status above 0; empty: it may
    say anything."""
    silent: int | None = None
    """Rank that cannot speak any more."""
    loses_nothing = False
    """Whether a checkpoint is written when it comes."""

    def before(self, scene: Scene) -> str:
        """Called before the run is started; what was done, empty for nothing."""
        return ""

    def strike(self, scene: Scene, run: Run) -> str:
        """Make it happen; what exactly.

        Raises:
            MissedError: There is nothing to hit.
        """
        raise NotImplementedError

    def after(self, scene: Scene) -> str:
        """Called when the run has ended; what was done, empty for nothing."""
        return ""
