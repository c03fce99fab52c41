"""``python -m benchmark.gpu_check.child``: does what it is told line by line, and answers line by line.

A request is a JSON object with ``section`` and the keyword arguments of that section's function; the answer
has ``values``, or ``error`` and whether the device can still be used. Whatever else is printed goes to
standard error.
"""

import contextlib
import gc
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

import torch

from benchmark.gpu_check import ceilings, convolutions, curves, exactness, fusions, steps
from benchmark.gpu_check.scale import Scale, scale_of

FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "ceilings": ceilings.measure,
    "exactness": exactness.measure,
    "ladder": steps.measure,
    "preparing": steps.measure,
    "convolutions": convolutions.measure,
    "kernels": convolutions.kernels,
    "fusions": fusions.measure,
    "curves": curves.measure,
}
_POISONED = (
    "CUDA error",
    "device-side assert",
    "illegal memory access",
    "misaligned address",
    "unspecified launch failure",
)
"""Parts of messages after which no call of this process to the device succeeds."""


def answer(scale: Scale, request: dict[str, Any]) -> dict[str, Any]:
    """Do one thing, from PyTorch's own settings on; what it raises is part of the answer."""
    try:
        _reset()
        return {"values": FUNCTIONS[request["section"]](scale, **request["arguments"])}
    except torch.OutOfMemoryError as error:
        return {"error": f"out of GPU memory: {_one_line(error)}", "usable": True}
    except Exception as error:  # noqa: BLE001 - what a check meets is what it reports; the others go on
        text = f"{type(error).__name__}: {_one_line(error)}"
        return {"error": text, "usable": not any(part in str(error) for part in _POISONED)}
    finally:
        gc.collect()
        if scale.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # a device that cannot be used is said in the answer
                torch.cuda.empty_cache()


def _reset() -> None:
    """What an earlier request has set, to PyTorch's defaults."""
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.benchmark_limit = 10
    torch.backends.cudnn.allow_tf32 = True


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else "no message")[:300]


def serve(scale: Scale, requests: TextIO, answers: TextIO) -> None:
    """Until the requests end."""
    for line in requests:
        found = answer(scale, json.loads(line))
        print(json.dumps(found), file=answers, flush=True)
        if not found.get("usable", True):
            return


def main() -> int:
    """Serve standard input; standard output is for answers alone, also by what writes to its number."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        serve(scale_of("--dry_run" in sys.argv[1:]), sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
