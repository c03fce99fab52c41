"""What is said about one rule."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

FOLLOW = 3
"""Names that a finding lists before it only counts them."""


class State(StrEnum):
    """Whether a run goes by a rule."""

    OK = "ok"
    WARNING = "warning"
    """Legal, and worth a thought."""
    OFF = "off"
    """Not legal, or nobody can tell."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule, and how a run stands to it."""

    rule: str
    required: str
    found: str
    state: State = State.OK
    remedy: str = ""
    """What to do, where it is not ok."""
    source: str
    """Where the rule is written: a section of training_rules.adoc, unless it names another place."""


def named(names: Iterable[str]) -> str:
    """The first names, and how many more there are; bytes that are no text are escaped."""
    names = [name.encode(errors="backslashreplace").decode() for name in names]
    more = len(names) - FOLLOW
    return ", ".join(names[:FOLLOW]) + (f" and {more} more" if more > 0 else "")
