"""What is known about a data set, file by file, so that a run need not read it to know that it is legal."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from preprocess.files import whole_file
from runtime.arguments import RunConfig
from runtime.errors import RunError
from runtime.preflight.voxels import Voxels

FORMAT_VERSION = 1

STAMP_NAME = "preflight.json"

FILE_OF_A_CASE = re.compile(r"case_\d{5}_[xy]\.npy")

COMMAND = "python -m runtime.preflight"


@dataclass(frozen=True, kw_only=True)
class FileStamp:
    """One file of the data set."""

    size: int
    """Bytes."""
    mtime_ns: int
    md5: str = ""
    """Empty: it cannot be read."""
    voxels: Voxels | None = None
    """Of an image whose md5 is not the published one."""
    objections: tuple[str, ...] = ()
    """What is wrong with such an image, or why a file cannot be read: each goes after the file's name."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """One data set. What is empty was not there, or could not be found out."""

    data_dir: str
    origin: str
    """``kits19`` or ``phantom`` by its manifest, ``unknown`` without one."""
    preprocessing: str
    """What is wrong with its manifest, or with how it was made."""
    storage_dtype: str
    """By the manifest."""
    storage: tuple[str, ...]
    """The file systems that hold its files."""
    in_memory: tuple[str, ...]
    """Those of them whose files are memory."""
    others: tuple[str, ...]
    """What lies in the folder and is no file of a case."""
    files: Mapping[str, FileStamp] = field(default_factory=dict)
    """By name."""

    def save(self, path: Path) -> None:
        """Write it so that a reader sees the old or the new one; raises OSError."""
        body = {"format_version": FORMAT_VERSION, **asdict(self)}
        with whole_file(path) as file:
            file.write(json.dumps(body, indent=1, allow_nan=False).encode())

    @classmethod
    def load(cls, path: Path) -> "Stamp":
        """The stamp at ``path``.

        Raises:
            RunError: There is none, it cannot be read, or it is damaged or of another version.
        """
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body.pop("format_version") != FORMAT_VERSION:
                raise ValueError("another version")
            files = {name: _file(entry) for name, entry in body.pop("files").items()}
            if not all(map(FILE_OF_A_CASE.fullmatch, files)):
                raise ValueError("it names other files than cases'")
            for key in ("storage", "in_memory", "others"):
                body[key] = tuple(map(str, body[key]))
            return cls(**body, files=files)
        except FileNotFoundError as error:
            raise RunError(f"{path} does not exist") from error
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise RunError(f"{path} is damaged or of another version ({error})") from error


def place(data_dir: Path) -> str:
    """A folder as stamps name it: absolute, symbolic links as they are."""
    return os.path.abspath(data_dir)


def stamp_path(config: RunConfig) -> Path:
    """Where the stamp of a run's data set is."""
    return config.mlperf.stamp or config.log_dir / STAMP_NAME


def _file(entry: dict[str, Any]) -> FileStamp:
    voxels = entry.pop("voxels")
    objections = tuple(map(str, entry.pop("objections")))
    size, mtime_ns = int(entry.pop("size")), int(entry.pop("mtime_ns"))
    return FileStamp(
        size=size,
        mtime_ns=mtime_ns,
        voxels=None if voxels is None else Voxels.of_json(voxels),
        objections=objections,
        **{key: str(value) for key, value in entry.items()},
    )
