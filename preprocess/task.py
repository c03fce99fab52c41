"""What passes between the program and its workers. Light to import: no torch, no nibabel."""

from dataclasses import dataclass
from pathlib import Path

from preprocess.manifest import CaseRecord
from preprocess.spec import MLPERF_STORAGE_DTYPE, StorageDtype


@dataclass(frozen=True)
class CaseTask:
    """Convert ``raw_dir`` (a ``case_XXXXX`` folder) into ``results_dir``; ``known`` is its manifest entry.

    The image is stored as ``storage_dtype``, which ``known`` was too.
    """

    raw_dir: Path
    results_dir: Path
    known: CaseRecord | None
    storage_dtype: StorageDtype = MLPERF_STORAGE_DTYPE

    @property
    def name(self) -> str:
        """``case_XXXXX``."""
        return self.raw_dir.name


@dataclass(frozen=True)
class CaseOutcome:
    """The record of a converted case; ``kept`` when the files of an earlier run were complete and correct.

    ``exact`` is False where this build of torch interpolates with other last bits than ``volume`` does.
    """

    record: CaseRecord
    kept: bool
    exact: bool


def image_path(results_dir: Path, name: str) -> Path:
    """Where the image of case ``name`` lies."""
    return results_dir / f"{name}_x.npy"


def label_path(results_dir: Path, name: str) -> Path:
    """Where the uint8 label of case ``name`` lies."""
    return results_dir / f"{name}_y.npy"


def work(task: CaseTask) -> CaseOutcome:
    """``preprocess.case.convert_case`` on one thread, for a worker process.

    The heavy libraries are imported here, where they are used, so that the program itself stays small.
    """
    import torch

    from preprocess.case import convert_case

    torch.set_num_threads(1)
    return convert_case(task)
