"""Checkpoint files: written whole or not at all, read without running any code they may contain.

One file holds the latest and the best state under the MLPerf reference's key names, so that its
checkpoints load here; keys beginning with ``last_`` beyond the reference's own are ours.
"""

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtime.errors import RunError
from runtime.files import set_aside

FORMAT_VERSION = 1


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path`` under a temporary name, flush it to disk and rename it.

    Raises:
        RunError: The file cannot be written; a file that was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format_version": FORMAT_VERSION, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's archive writer raises RuntimeError on a full disk
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or "the disk may be full"
        raise RunError(
            f"{path}: the checkpoint cannot be written ({reason}); free space or choose another "
            "--save_ckpt_path"
        ) from error


def prepare_checkpoint(path: Path, *, keep: bool) -> None:
    """Find out before training whether a checkpoint can be written to ``path``.

    A file that is there already is another run's and is renamed to carry its time, unless ``keep`` says
    that this run continues it.

    Raises:
        RunError: It cannot.
    """
    probe = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        if not keep:
            set_aside(path)
    except OSError as error:
        raise RunError(
            f"{path}: the checkpoint cannot be written ({error.strerror}); choose another --save_ckpt_path"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of this program or of the MLPerf reference, in host memory.

    Raises:
        RunError: The file is missing, damaged, not a checkpoint, of a newer format, or holds anything but
            tensors and plain values (nothing else is ever unpickled).
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such checkpoint; check --load_ckpt_path") from error
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path}: not a checkpoint of tensors and plain values, and nothing else is loaded; check "
            "--load_ckpt_path"
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: the checkpoint is damaged or unreadable; use an earlier one") from error
    if not isinstance(content, dict) or not {"best_model_state_dict", "last_model_state_dict"} & set(content):
        raise RunError(
            f"{path}: holds neither best_model_state_dict nor last_model_state_dict, so it is no "
            "checkpoint of U-Net3D training; check --load_ckpt_path"
        )
    version = content.get("format_version", 0)
    if version > FORMAT_VERSION:
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
