"""The record as it grows: every outcome is printed and written as it comes, whatever happens next."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.record import Record, write_record

SUITE = "gpu-check"
DRY_SUITE = "gpu-check-dry-run"
OK, WRONG, FAILED, NOT_RUN, NEEDS_CUDA = "ok", "wrong", "failed", "not run", "needs CUDA"


@dataclass(frozen=True)
class Outcome:
    """What became of one item of a section."""

    name: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    values: dict[str, Any] | None = None


class Journal:
    """All outcomes, in order, and the file they are in.

    Args:
        folder: Of ``record.json``.
        dry: Whether numbers are a CPU's, of another size, and no measurement.
        command: How the check was started.
        environment: As `benchmark.environment.describe` has it.
        config: The sizes of everything.
    """

    def __init__(
        self,
        folder: Path,
        dry: bool,
        command: Sequence[str],
        environment: dict[str, Any],
        config: dict[str, Any],
    ) -> None:
        self._folder, self.dry = folder, dry
        self._command, self.environment, self._config = list(command), environment, config
        self._lock = threading.Lock()
        self._outcomes: dict[str, list[Outcome]] = {}
        self._finished: dict[str, float] = {}

    def begin(self, section: str, title: str) -> None:
        """A section starts."""
        self._outcomes.setdefault(section, [])
        self.say(f"== {title}")

    def note(self, section: str, outcome: Outcome, line: str) -> None:
        """Print ``line``, and write what is known."""
        with self._lock:
            self._outcomes[section].append(outcome)
            self.say(line)
            self.write(complete=False)

    def end(self, section: str, seconds: float) -> None:
        """A section is over, after so long."""
        with self._lock:
            self._finished[section] = seconds
            self.write(complete=False)

    def say(self, line: str) -> None:
        """Print, at once."""
        for part in line.splitlines():
            print(f"dry run | {part}" if self.dry else part, flush=True)

    def of(self, section: str) -> list[Outcome]:
        """What a section has found so far."""
        return list(self._outcomes.get(section, []))

    def values(self, section: str) -> list[dict[str, Any]]:
        """The values of what was measured in a section, right or wrong."""
        return [outcome.values for outcome in self.of(section) if outcome.values is not None]

    def count(self, *statuses: str) -> int:
        """How many outcomes have one of these statuses."""
        return sum(outcome.status in statuses for found in self._outcomes.values() for outcome in found)

    def failed_in(self, section: str) -> int:
        """How many items of a section could not be judged."""
        return sum(outcome.status == FAILED for outcome in self.of(section))

    def sections(self) -> list[str]:
        """Those that have begun."""
        return list(self._outcomes)

    def write(self, complete: bool) -> None:
        """Write the record, whole or not at all."""
        sections = {
            name: {
                "seconds": self._finished.get(name),
                "items": [finite(vars(outcome)) for outcome in found],
            }
            for name, found in self._outcomes.items()
        }
        results = {"dry_run": self.dry, "complete": complete, "sections": sections}
        record = Record(
            suite=DRY_SUITE if self.dry else SUITE,
            command=self._command,
            results=results,
            config=self._config,
            environment=self.environment,
        )
        write_record(record, self._folder / "record.json")


def finite(value: Any) -> Any:
    """The same with None in the place of numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value
