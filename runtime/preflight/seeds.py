"""Seeds of a series of runs: distinct, and new to the folder of its results.

A series lies in one folder: ``result_<i>.txt``, the log of a finished run, and ``run_<i>/unet3d.log``, the
log as that run writes it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.arguments import RunConfig
from runtime.errors import RunError
from runtime.logging import LOG_NAME
from runtime.preflight.finding import Finding, State, named

FROM_ENTROPY = -1
"""The seed that asks the system for one."""

_LOG_PREFIX = ":::MLLOG"
_SOURCE = "Random numbers"


def seed_findings(config: RunConfig, seeds: Sequence[int]) -> list[Finding]:
    """The rules on the seeds of runs that are to be logged under ``config.log_dir``."""
    return [_distinct(seeds), _new(seeds, _logs(config.log_dir))]


def _distinct(seeds: Sequence[int]) -> Finding:
    twice = [seed for seed, count in Counter(seeds).items() if count > 1 and seed != FROM_ENTROPY]
    given = "of the system's entropy" if set(seeds) == {FROM_ENTROPY} else named(map(str, seeds))
    return Finding(
        rule="seeds",
        required="another one for each run",
        found=f"{named(map(str, twice))} given more than once" if twice else given,
        state=State.OFF if twice else State.OK,
        remedy="give each run its own, or -1",
        source=_SOURCE,
    )


def _new(seeds: Sequence[int], logs: Sequence[Path]) -> Finding:
    state, remedy = State.OFF, "choose others, or move those runs away"
    try:
        taken = {seed: path for path in logs for seed in logged_seeds(path)}
        used = [f"{seed} in {_short(taken[seed])}" for seed in dict.fromkeys(seeds) if seed in taken]
        found = named(used) if used else f"none used in {len(logs)} logs"
        state = state if used else State.OK
    except RunError as error:
        found, remedy = str(error), "move that log away"
    return Finding(
        rule="seeds of other runs",
        required="not used again",
        found=found,
        state=state,
        remedy=remedy,
        source=_SOURCE,
    )


def _logs(log_dir: Path) -> list[Path]:
    """The logs of the series, without that which the run itself will replace."""
    series = log_dir.parent if log_dir.name.startswith("run_") else log_dir
    logs = [*series.glob("result_*.txt"), *series.glob(f"run_*/{LOG_NAME}")]
    return sorted(path for path in logs if path != log_dir / LOG_NAME)


def logged_seeds(path: Path) -> set[int]:
    """The seeds in an MLPerf log, which may have been cut or be of a run that never came to its seed.

    Raises:
        RunError: It cannot be read, or the line with the seed is damaged.
    """
    try:
        return set(_seeds_in(path.read_text(encoding="utf-8", errors="replace")))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{path} has a damaged line with a seed ({error})") from error


def _seeds_in(text: str) -> Iterator[int]:
    for line in text.splitlines():
        _, prefix, entry = line.partition(_LOG_PREFIX)
        if prefix and '"seed"' in entry:
            event = json.loads(entry)
            if event["key"] == "seed":
                yield int(event["value"])


def _short(path: Path) -> str:
    """The name, with its folder where all have the same."""
    return f"{path.parent.name}/{path.name}" if path.name == LOG_NAME else path.name
