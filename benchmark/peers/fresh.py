"""Runs a task of a contender in a fresh process."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark.fresh_process import ProcessError, run_fresh
from benchmark.peers.contender import Settings
from benchmark.process_tree import TreeMemory

START_LIMIT_S = 1800.0
"""What a task may take beyond the time that it is to measure for."""


class ContenderError(Exception):
    """A contender failed; the message says why, in one line."""


def run(task: str, name: str, settings: Settings, tree: TreeMemory | None = None) -> dict[str, Any]:
    """What ``task``, a key of ``child.TASKS``, returns for contender ``name``; ``tree`` watches it meanwhile.

    Raises:
        ContenderError: the task failed, was killed, or did not end in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "out.json", Path(folder) / "log.txt"
        command = [sys.executable, "-m", "benchmark.peers.child", task, name, settings.to_json(), str(out)]
        limit_s = settings.warmup_s + settings.seconds + START_LIMIT_S
        try:
            run_fresh(command, log, limit_s, tree.sample if tree else None)
            outcome = json.loads(out.read_text(encoding="utf-8"))
        except ProcessError as error:
            raise ContenderError(str(error)) from error
        except FileNotFoundError as error:
            raise ContenderError("ended without a result") from error
    if "failure" in outcome:
        raise ContenderError(outcome["failure"])
    result: dict[str, Any] = outcome["result"]
    return result
