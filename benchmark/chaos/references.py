"""Uninterrupted runs, made once for each configuration."""

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.chaos.checkpoints import read
from benchmark.chaos.configurations import Configuration
from benchmark.chaos.judgement import last_line
from benchmark.chaos.running import Run
from benchmark.chaos.traces import Trace
from runtime.errors import RunError

LIMIT_S = 120.0
_SAVING_S = 0.1
"""From the last evaluation to the end of the last checkpoint."""


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run did."""

    traces: list[Trace]
    content: dict[str, Any]
    """Of its last checkpoint."""
    starting_s: float
    """From ``main.py``'s first line to the end of its first step."""
    training_s: float
    """From there to the last checkpoint."""


class References:
    """Makes and keeps them in a folder; may be asked by several threads."""

    def __init__(self, work: Path, data: Path, interrupted: threading.Event) -> None:
        self._work, self._data, self._interrupted = work, data, interrupted
        self._lock = threading.Lock()
        self._locks: dict[Configuration, threading.Lock] = {}
        self._made: dict[Configuration, Reference] = {}

    def get(self, configuration: Configuration) -> Reference:
        """That of a configuration.

        Raises:
            RunError: It did not end well without any fault.
        """
        with self._lock:
            own = self._locks.setdefault(configuration, threading.Lock())
        with own:
            if configuration not in self._made:
                self._made[configuration] = self._make(configuration)
            return self._made[configuration]

    def _make(self, configuration: Configuration) -> Reference:
        folder = self._work / f"undisturbed-{len(self._locks)}"
        folder.mkdir()
        checkpoint = folder / "checkpoints" / "c.pth"
        command = configuration.command(folder, "run", self._data, checkpoint)
        run = Run(configuration, folder, "run", command, None, self._interrupted)
        try:
            ended = run.wait(LIMIT_S)
        finally:
            run.end()
        content = read(checkpoint)
        if not ended or run.process.returncode or content is None:
            raise RunError(
                f"the run without a fault ({configuration.name}) did not end well: "
                f"{last_line(run.printed())}; see {folder}"
            )
        traces = run.traces()
        shutil.rmtree(folder)
        first = traces[0].steps[0].at
        return Reference(traces, content, first - traces[0].began, traces[0].scored - first + _SAVING_S)
