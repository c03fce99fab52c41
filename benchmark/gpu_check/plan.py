"""What a check is given, and the items that it does one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.gpu_check.scale import Scale


@dataclass(frozen=True)
class Plan:
    """What the whole check is given."""

    scale: Scale
    data_dir: Path | None
    """Of preprocessed volumes; None: loaders that read are left out."""


@dataclass(frozen=True)
class Item:
    """One thing to do."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    limit_s: float = 60.0
    fresh: bool = False
    """Whether it wants a child of its own."""
    alone: bool = False
    """Whether it needs the device's memory for itself."""
    not_here: str = ""
    """Why it is not done: another status than `ok`, with its reason after a colon."""


Items = Sequence[Item]
