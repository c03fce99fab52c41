"""One task for one contender, in a process of its own that ``fresh.run`` starts.

    python -m benchmark.peers.child TASK NAME SETTINGS OUT

It writes what came out, or the reason why nothing did, to the file OUT.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmark.peers.contender import Settings
from benchmark.peers.contenders import CONTENDERS

_PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""


def prepare(name: str, settings: Settings) -> dict[str, Any]:
    """Let the contender write its own files."""
    CONTENDERS[name].prepare(settings)
    return {}


def rate(name: str, settings: Settings) -> dict[str, Any]:
    """Images per second at the arrival of batches, after a warm-up; and the seconds until there was one."""
    device = settings.device()
    begin = time.perf_counter()
    stream = CONTENDERS[name].start(settings)
    try:
        _check(next(stream.batches), settings)
        start = time.perf_counter()
        first_batch_s = start - begin
        while time.perf_counter() - start < settings.warmup_s:
            _deliver(next(stream.batches), device)
        _synchronise(device)
        images, start = 0, time.perf_counter()
        while time.perf_counter() - start < settings.seconds:
            _deliver(next(stream.batches), device)
            images += settings.batch_size
        _synchronise(device)
        elapsed = time.perf_counter() - start
    finally:
        stream.close()
    return {"images_per_s": images / elapsed, "first_batch_s": first_batch_s}


def one_pass(name: str, settings: Settings) -> dict[str, Any]:
    """Take every case once: the number of images, and the bytes that the loader says it asked for."""
    stream = CONTENDERS[name].start(settings)
    batches = len(settings.cases()) // settings.batch_size
    try:
        for _ in range(batches):
            _check(next(stream.batches), settings)
        asked = stream.bytes_read() if stream.bytes_read else None
    finally:
        stream.close()
    return {"images": batches * settings.batch_size, "asked_bytes": asked}


TASKS: dict[str, Callable[[str, Settings], dict[str, Any]]] = {
    "prepare": prepare,
    "rate": rate,
    "one_pass": one_pass,
}


def _check(batch: Any, settings: Settings) -> None:
    """Raise ValueError if a batch is not what every contender has to deliver."""
    image, label = (torch.as_tensor(part) for part in batch)
    shape = (settings.batch_size, 1, *(settings.patch,) * 3)
    if tuple(image.shape) != shape or tuple(label.shape) != shape:
        raise ValueError(f"a batch of {tuple(image.shape)} and {tuple(label.shape)}, expected {shape}")
    if image.dtype != torch.float32 or label.dtype.is_floating_point:
        raise ValueError(f"a batch of {image.dtype} and {label.dtype}, expected float32 and an integer type")


def _deliver(batch: Any, device: torch.device) -> None:
    if device.type == "cuda":
        for part in batch:
            torch.as_tensor(part).to(device, non_blocking=True)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _reason(error: BaseException) -> str:
    """One line; of an error that carries a worker's traceback, its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if len(lines) > 1 else f"{type(error).__name__}: {lines[0]}"


def main() -> None:
    """Do the task, write its outcome, leave at once: the caller ends what a contender has left running."""
    task, name, settings, out = sys.argv[1:]
    _die_with_parent()
    # So do the processes that a contender forks, whatever it thinks of.
    os.register_at_fork(after_in_child=_die_with_parent)
    outcome: dict[str, Any]
    try:
        outcome = {"result": TASKS[task](name, Settings.from_json(settings))}
    except Exception as error:  # noqa: BLE001 - other people's code may fail in any way; the others go on
        outcome = {"failure": _reason(error)}
    Path(out).write_text(json.dumps(outcome), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
