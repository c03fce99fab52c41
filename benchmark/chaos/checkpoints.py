"""Checkpoint files as somebody finds them who trusts none of them, and two of them compared bit by bit."""

import pickle
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MOST_DIFFERENCES = 5

_DAMAGE = (
    OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip
"""What reading a damaged archive or pickle raises."""


@dataclass(frozen=True)
class Found:
    """A whole checkpoint."""

    path: Path
    epoch: int
    """Whole epochs done."""
    step: int
    """Steps done of the next."""

    def steps(self, steps_per_epoch: int) -> int:
        """Steps of the run done so far."""
        return self.epoch * steps_per_epoch + self.step


def family(newest: Path) -> list[Path]:
    """``c.pth``, ``c.1.pth``, ``c.2.pth``, ... as far as they are there, the newest first."""
    others = newest.parent.glob(f"{newest.stem}.*{newest.suffix}")
    ages = {int(age): path for path in others if (age := path.stem.rpartition(".")[2]).isdigit()}
    if newest.exists():
        ages[0] = newest
    return [ages[age] for age in sorted(ages)]


def read(path: Path) -> dict[str, Any] | None:
    """The content, if every byte of it is as it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                return None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE:
        return None
    return content if isinstance(content, dict) else None


def newest_whole(newest: Path) -> Found | None:
    """The newest that can be read; None where none can."""
    for path in family(newest):
        if content := read(path):
            return Found(path, int(content["last_epoch"]), int(content["last_step"]))
    return None


def foreign_names(newest: Path, keep: int) -> list[str]:
    """What lies beside the last ``keep`` checkpoints and should not, as parts of one that was given up."""
    known = {newest.name, f"{newest.stem}.damaged{newest.suffix}"}
    known |= {f"{newest.stem}.{age}{newest.suffix}" for age in range(1, keep)}
    return sorted(path.name for path in newest.parent.iterdir() if path.name not in known)


def differences(expected: Any, found: Any, place: str = "") -> list[str]:
    """Where two contents differ in a bit, a type or a key, at most ``MOST_DIFFERENCES`` places."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if list(expected) != list(found):
            only = sorted(map(str, set(expected) ^ set(found))) or "their order"
            return [f"{place or 'checkpoint'}: keys differ: {only}"]
        pairs: Sequence[tuple[Any, Any, str]] = [(expected[k], found[k], f"{place}/{k}") for k in expected]
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        if len(expected) != len(found):
            return [f"{place}: {len(expected)} items, found {len(found)}"]
        both = zip(expected, found, strict=True)
        pairs = [(one, other, f"{place}[{i}]") for i, (one, other) in enumerate(both)]
    else:
        wrong = _leaf(expected, found)
        return [f"{place}: {wrong}"] if wrong else []
    every = (line for one, other, where in pairs for line in differences(one, other, where))
    return [line for line, _ in zip(every, range(MOST_DIFFERENCES), strict=False)]


def _leaf(expected: Any, found: Any) -> str:
    if type(expected) is not type(found):
        return f"{type(expected).__name__}, found {type(found).__name__}"
    if isinstance(expected, Tensor):
        if (expected.dtype, expected.shape) != (found.dtype, found.shape):
            return f"{expected.dtype} {list(expected.shape)}, found {found.dtype} {list(found.shape)}"
        unequal = _bytes(expected) != _bytes(found)
        return f"{int(unequal.sum())} of {unequal.numel()} bytes differ" if unequal.any() else ""
    if isinstance(expected, float):  # by its bits: NaN equals itself, and 0.0 is not -0.0
        same = struct.pack("<d", expected) == struct.pack("<d", found)
    else:
        same = expected == found
    return "" if same else f"{expected!r}, found {found!r}"


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
