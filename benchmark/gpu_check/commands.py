"""What runs as a command of its own: ``main.py --benchmark``, and the tests that need a GPU."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT
from benchmark.fresh_process import ProcessError, run_fresh
from benchmark.gpu_check.feedings import installed

_COUNTS = re.compile(r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed)\b")
_MARK = "mark.gpu"


def python(dry: bool) -> list[str]:
    """This interpreter; in a dry run without GPUs, with Triton's interpreter, and on one CPU."""
    own = ("CUDA_VISIBLE_DEVICES=", "TRITON_INTERPRET=1", "OMP_NUM_THREADS=1")
    return ["env", *own, sys.executable] if dry else [sys.executable]


def end_to_end(folder: Path, arguments: dict[str, Any], limit_s: float) -> dict[str, Any]:
    """The rate of a run of ``main.py --benchmark``, its ceiling without a loader and its stall.

    Raises:
        ProcessError: it failed, or took longer than ``limit_s``.
    """
    out = folder / "end-to-end" / arguments["name"]
    out.mkdir(parents=True, exist_ok=True)
    command = [
        *python(arguments["dry"]),
        "main.py",
        "--benchmark",
        "--log_dir",
        str(out),
        *arguments["flags"],
    ]
    run_fresh(command, out / "log.txt", limit_s)
    found = json.loads((out / "benchmark.json").read_text(encoding="utf-8"))["results"]
    kept = (
        "images_per_second", "images_per_second_low", "images_per_second_high", "steady",
        "ceiling_images_per_second", "data_stall", "last_loss",
    )  # fmt: skip
    return {"flags": arguments["flags"], "batch": arguments["batch"]} | {key: found.get(key) for key in kept}


def gpu_tests() -> list[str]:
    """The files with tests that need a GPU, relative to the repository."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [
        str(path.relative_to(ROOT))
        for path in files
        if _MARK in path.read_text(encoding="utf-8") and "gpu_check" not in path.name
    ]


def tests(folder: Path, arguments: dict[str, Any], limit_s: float) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and which failed.

    Raises:
        ProcessError: they did not end within ``limit_s``, or did not get to the end.
    """
    log = folder / "tests.txt"
    # addopts: plugins that the repository's own options need may not be installed.
    options = ["-o", "addopts=", "-q", "--tb=line", "-rfE", "-p", "no:cacheprovider", "-m", "gpu"]
    options.append("--continue-on-collection-errors")
    if installed("xdist") and not arguments["dry"]:
        options += ["-n", str(max(1, min(8, len(os.sched_getaffinity(0)) // 2)))]
    ended = ""
    try:
        run_fresh([*python(arguments["dry"]), "-m", "pytest", *options, *arguments["files"]], log, limit_s)
    except ProcessError as error:
        ended = str(error)
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    last = text.splitlines()[-1] if text else ""
    counts = {kind.rstrip("s") if kind == "errors" else kind: int(n) for n, kind in _COUNTS.findall(last)}
    if not counts or "did not end" in ended:
        raise ProcessError(ended or f"no counts in the last line: {last}")
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, flags=re.MULTILINE)
    if not failed and (counts.get("failed") or counts.get("error")):
        failed = [f"see {log.name}"]
    return {"counts": counts, "failed": failed}
