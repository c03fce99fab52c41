"""Checkpoint files: written whole or not at all, read without running any code they may contain.

One file holds the latest and the best state under the MLPerf reference's key names, so that its
checkpoints load here; keys beginning with ``last_`` beyond the reference's own are ours. The file is a ZIP
archive, as torch writes it, with a CRC-32 of every record, which is checked here and not by torch.

Formats: 1 without, 2 with ``last_losses`` and a ``last_step`` that may be a whole epoch; both are read.
"""

import contextlib
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtime.errors import RunError

FORMAT_VERSION = 2


class DamagedError(RunError):
    """A file that may have been a checkpoint once, and cannot be read whole."""


def temporary_name(path: Path) -> Path:
    """Under which a checkpoint is written; what a killed run left there is of no use."""
    return path.with_name(f".{path.name}.tmp")


def write_checkpoint(
    path: Path, content: dict[str, Any], before_rename: Sequence[tuple[Path, Path]] = ()
) -> None:
    """Write ``content`` to ``path`` under a temporary name, flush it to disk and rename it.

    Args:
        path: Where to; a file that is there is replaced.
        content: Tensors and plain values.
        before_rename: Files to rename, (from, to), once the new one is whole; one that is absent is left out.

    Raises:
        RunError: The file cannot be written; files that were there before are untouched.
    """
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            torch.save({"format_version": FORMAT_VERSION, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        for old, new in before_rename:
            with contextlib.suppress(FileNotFoundError):
                old.replace(new)
        temporary.replace(path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's archive writer raises RuntimeError on a full disk
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or "the disk may be full"
        raise RunError(
            f"{path}: the checkpoint cannot be written ({reason}); free space or choose another "
            "--save_ckpt_path"
        ) from error


def _flush_folder(folder: Path) -> None:
    """Let renames survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of this program or of the MLPerf reference, in host memory.

    Raises:
        DamagedError: It cannot be read whole, or holds anything but tensors and plain values (nothing else is
            ever unpickled).
        RunError: The file is missing, not a checkpoint, or of a newer format.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                record = archive.testzip()
            if record:
                raise DamagedError(f"{path}: the checkpoint is damaged (its {record}); use an earlier one")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except RunError:
        raise
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: no such checkpoint; check --resume or --load_ckpt_path, and that all machines see it"
        ) from error
    except pickle.UnpicklingError as error:  # also of a file of zeros, as a loss of power may leave
        raise DamagedError(
            f"{path}: not a checkpoint of tensors and plain values, and nothing else is loaded; check "
            "--resume or --load_ckpt_path"
        ) from error
    except Exception as error:  # damaged archives and pickles raise whatever comes
        raise DamagedError(f"{path}: the checkpoint is damaged or unreadable; use an earlier one") from error
    if not isinstance(content, dict) or not {"best_model_state_dict", "last_model_state_dict"} & set(content):
        raise RunError(
            f"{path}: holds neither best_model_state_dict nor last_model_state_dict, so it is no "
            "checkpoint of U-Net3D training; check --resume or --load_ckpt_path"
        )
    version = content.get("format_version", 0)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunError(
            f"{path}: checkpoint format {version} is newer than this program's {FORMAT_VERSION}; update it"
        )
    return content


def load_model(model: nn.Module, state_dict: dict[str, Any], path: Path) -> None:
    """Load weights into a model without a DDP wrapper.

    Raises:
        RunError: Names or shapes differ; the first difference is named.
    """
    # Checkpoints that the reference wrote under DDP at some versions carry the wrapper's prefix.
    state_dict = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    own = model.state_dict()
    for name, tensor in own.items():
        found = state_dict.get(name)
        if found is None or found.shape != tensor.shape:
            raise RunError(
                f"{path}: does not fit the network: {name} should be {list(tensor.shape)} and is "
                f"{'missing' if found is None else list(found.shape)}; give the --filters and "
                "--normalization it was trained with"
            )
    extra = sorted(set(state_dict) - set(own))
    if extra:
        raise RunError(
            f"{path}: holds {len(extra)} tensors that the network lacks, the first is {extra[0]}; give the "
            "--filters and --normalization it was trained with"
        )
    model.load_state_dict(state_dict)
