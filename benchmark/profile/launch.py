"""Starts one process for each emulated accelerator of this machine, as torchrun would for each GPU."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

_LOOK_S = 0.1
_ENDING_S = 30.0


def launch(arguments: Sequence[str], size: int) -> int:
    """Run ``python -m benchmark arguments`` as ``size`` ranks; the exit status, that of the first to fail.

    A rank that fails ends the others. Ctrl-C reaches all of them from the terminal, and each ends by itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    common["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmark", *arguments],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]
    try:
        while any(rank.poll() is None for rank in ranks):
            if any(rank.poll() for rank in ranks):
                break
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        _wait(ranks)
        return 128 + signal.SIGINT
    finally:
        _end(ranks)
    return next(
        (rank.returncode for rank in ranks if rank.returncode > 0), max(abs(r.returncode) for r in ranks)
    )


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
