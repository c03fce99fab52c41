"""The newest checkpoint of a run and those before it: ``c.pth``, ``c.1.pth``, ``c.2.pth``, ..."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.checkpoint import DamagedError, read_checkpoint, temporary_name
from runtime.errors import RunError
from runtime.files import set_aside


def generation(path: Path, age: int) -> Path:
    """Where the checkpoint lies that is ``age`` older than the newest."""
    return path.with_stem(f"{path.stem}.{age}") if age else path


def existing(path: Path) -> list[Path]:
    """All that there are, the newest first. A run that was killed between two renames left no newest."""
    pattern = re.compile(re.escape(path.stem) + r"(?:\.(\d{1,6}))?" + re.escape(path.suffix))
    ages = {}
    for found in path.parent.glob("*") if path.parent.is_dir() else ():
        if match := pattern.fullmatch(found.name):
            ages[int(match[1] or 0)] = found
    return [ages[age] for age in sorted(ages)]


def shifts(path: Path, keep: int) -> list[tuple[Path, Path]]:
    """What to rename, in this order, before a new one becomes the newest of ``keep``."""
    return [(generation(path, age), generation(path, age + 1)) for age in reversed(range(keep - 1))]


def newest_whole(path: Path, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read, and its content; None where there is no file at all.

    Damaged ones are passed over, with a warning.

    Raises:
        RunError: There are files, and none can be read; or the newest readable one is no checkpoint.
    """
    found = existing(path)
    damage: RunError | None = None
    for candidate in found:
        try:
            return candidate, read_checkpoint(candidate)
        except DamagedError as error:
            damage = damage or error
            say(f"warning: {error}")
    if damage:
        raise damage
    return None


def prepare(path: Path, *, continued: Path | None) -> None:
    """Find out before training whether checkpoints can be written to ``path``, and make room for them.

    Files that are there already are another run's and are renamed to carry their time, unless ``continued``,
    the checkpoint that this run goes on from, is one of them. Then those that are newer than it are damaged:
    ``c.damaged.pth``, in the way of none.

    Raises:
        RunError: They cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = temporary_name(path)
        probe.touch()
        probe.unlink()
        found = existing(path)
        if continued in found:
            for damaged in found[: found.index(continued)]:
                damaged.replace(path.with_stem(f"{path.stem}.damaged"))
        else:
            for other in found:
                set_aside(other)
    except OSError as error:
        raise RunError(
            f"{path}: the checkpoint cannot be written ({error.strerror}); choose another --save_ckpt_path"
        ) from error
