"""Starts one process for each emulated accelerator of this machine, as torchrun would for each GPU."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.fresh_process import death

_LOOK_S = 0.1
_ENDING_S = 30.0


def launch(arguments: Sequence[str], size: int) -> int:
    """Run ``python -m benchmark arguments`` as ``size`` ranks; the exit status, that of the first to fail.

    A rank that fails ends the others, and only what it said is passed on. Ctrl-C reaches all of them from the
    terminal, and each ends by itself. Where there are fewer GPUs than ranks, batches stay in host memory.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    common["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    if torch.cuda.device_count() < size:
        common["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"{rank}.txt" for rank in range(size)]
        ranks = [_start(arguments, common, rank, log) for rank, log in enumerate(logs)]
        try:
            while (first := _failed(ranks)) is None and any(rank.poll() is None for rank in ranks):
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            _wait(ranks)
            _pass_on(logs[0])
            return 128 + signal.SIGINT
        finally:
            _end(ranks)
        number, status = first or (0, 0)
        if status < 0:
            print(f"rank {number}: {death(status, logs[number])}", file=sys.stderr)
            return 1
        _pass_on(logs[number])
        return status


def _failed(ranks: Sequence["subprocess.Popen[bytes]"]) -> tuple[int, int] | None:
    """The number and the exit status of the first rank that ended in failure."""
    return next(((number, status) for number, rank in enumerate(ranks) if (status := rank.poll())), None)


def _start(
    arguments: Sequence[str], common: dict[str, str], rank: int, log: Path
) -> "subprocess.Popen[bytes]":
    with log.open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmark", *arguments],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=errors,
        )


def _pass_on(log: Path) -> None:
    print(log.read_text(encoding="utf-8", errors="replace"), end="", file=sys.stderr)


def _wait(ranks: Sequence["subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + _ENDING_S
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


def _end(ranks: Sequence["subprocess.Popen[bytes]"]) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.terminate()
    _wait(ranks)
    for rank in ranks:
        if rank.poll() is None:
            rank.kill()
            rank.wait()
