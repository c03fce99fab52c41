"""What a contender is: a loader, ours or somebody else's, behind one small interface."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from pipelines.cases import Case, find_cases, split
from preprocess.spec import evaluation_ids


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all contenders do alike."""

    data_dir: Path
    evaluation_cases: Path
    """Ids of the cases of ``data_dir`` that nobody reads."""
    reference_dir: Path | None
    """The folder ``unet3d/pytorch`` of the MLPerf reference."""
    cache_dir: Path
    """Where a contender that needs files of its own keeps them."""
    patch: int
    """Voxels along each edge of a patch."""
    batch_size: int
    workers: int
    """Processes, or threads where a contender has no processes."""
    oversampling: float = 0.4
    """Part of the patches that are cropped around foreground."""
    warmup_s: float = 0.0
    """Seconds of batches that do not count, before those that do."""
    seconds: float = 0.0
    """Seconds for which batches are counted."""
    one_pass: bool = False
    """Each case exactly once and nothing read ahead, rather than batches without end at full speed. The
    training cases then fill whole batches."""

    def cases(self) -> tuple[Case, ...]:
        """The training cases. Raises DataError if ``data_dir`` is no folder of preprocessed cases."""
        return split(find_cases(self.data_dir), evaluation_ids(self.evaluation_cases))[0]

    def device(self) -> torch.device:
        """Where batches have to be."""
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")

    def to_json(self) -> str:
        """For ``from_json`` in another process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """What ``to_json`` wrote."""
        fields: dict[str, Any] = json.loads(text)
        for name in ("data_dir", "evaluation_cases", "reference_dir", "cache_dir"):
            fields[name] = Path(fields[name]) if fields[name] is not None else None
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A contender at work."""

    batches: Iterator[tuple[Any, Any]]
    """(image, label), tensors or arrays: float32 and an integer type, both N x 1 x D x H x W. Without end, or
    the batches of one pass."""
    bytes_read: Callable[[], int] | None = None
    """Bytes that the loader itself says it asked the system for, for the batches handed out."""
    close: Callable[[], None] = lambda: None


class Contender(ABC):
    """A loader. Whatever it needs is imported when it is used, not with its module."""

    ours = False
    own_files = False
    """Reads files in a format of its own."""
    keeps_volumes = False
    """Reads every file once, whole, and then from memory: its bytes per image are those of the first pass."""

    @abstractmethod
    def missing(self, settings: Settings) -> str | None:
        """What has to be installed or given before this contender can run, in a few words; None: nothing."""

    def prepare(self, settings: Settings) -> None:
        """Write the files that it reads, where ``own_files`` says so. Not part of any time."""
        raise NotImplementedError

    def files(self, settings: Settings) -> tuple[Path, ...]:
        """The data files that it reads."""
        return tuple(path for case in settings.cases() for path in (case.image, case.label))

    @abstractmethod
    def start(self, settings: Settings) -> Stream:
        """Begin to deliver."""


def not_installed(*modules: str, remedy: str = "requirements-peers.txt") -> str | None:
    """What to do if one of these modules is missing; None if they are all there. Imports none of them."""
    try:
        if all(find_spec(module) for module in modules):
            return None
    except ModuleNotFoundError:  # the package that a module would be in
        pass
    return f"not installed: pip install {'--no-deps ' if 'peers' in remedy else ''}-r {remedy}"
