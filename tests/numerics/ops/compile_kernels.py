"""Compiles the kernels of ``model/ops`` for a Hopper GPU, on any machine with Triton: no GPU is needed.

Triton's interpreter takes what its compiler refuses. Here the launches of a training step of the MLPerf
network and of a sliding window (``kernel_launches.py``) are compiled with the types, the constants and the
divisibilities that Triton sees in them; what differs in these, once.

    python -m tests.numerics.ops.compile_kernels          # what tests compile
    python -m tests.numerics.ops.compile_kernels --all    # all dtypes, batches, layouts and activations

It prints a line per compiled kernel (`Compiled`), and its exit status is 1 where one failed.
"""

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import model.ops
from tests.numerics.ops.kernel_launches import Hopper, Launch, all_launches, launches_of_tests


@dataclass(frozen=True)
class Compiled:
    """What has become of a launch."""

    module: str
    name: str
    dtype: str
    arguments: str
    error: str = ""
    registers: int = 0
    spilled: int = 0
    """Bytes that a thread spills, stores and loads."""
    shared: int = 0
    """Bytes of a program."""
    loads: str = ""
    """Instructions that read global memory, counted by bytes: "16:8 2:3" are eight of 16 and three of 2."""
    stores: str = ""
    products: str = ""
    """Tensor core instructions: mma, wgmma or both."""
    seconds: float = 0.0


def _accesses(ptx: str, instructions: str) -> str:
    """Counts of accesses to global memory by their bytes, the largest first."""
    counts: Counter[int] = Counter()
    for vector, bits in re.findall(
        rf"(?:{instructions})\.global(?:\.[\w:]+)*?(?:\.v(\d))?\.[bfsu](\d+)\b", ptx
    ):
        counts[int(vector or 1) * int(bits) // 8] += 1
    if "ld" in instructions:
        # Asynchronous copies into shared memory name their bytes after both addresses.
        counts.update(
            int(size, 0) for size in re.findall(r"cp\.async\.c[ag]\.shared\.global [^;]*?\], (\w+)", ptx)
        )
    return " ".join(f"{size}:{count}" for size, count in sorted(counts.items(), reverse=True))


def compiled(launch: Launch) -> Compiled:
    """Compile a launch in this process, which `_prepare_worker` has prepared."""
    start = time.monotonic()
    log = io.StringIO()
    kernel = getattr(importlib.import_module(launch.module), launch.name)
    known = {key: getattr(launch, key) for key in ("module", "name", "dtype", "arguments")}
    try:
        with contextlib.redirect_stdout(log):
            binary = kernel.preload(launch.specialization)
    except Exception as error:  # noqa: BLE001 - whatever the compiler raises is a result.
        return Compiled(**known, error=f"{type(error).__name__}: {error}")
    ptxas = log.getvalue()
    (registers,) = re.findall(r"Used (\d+) registers", ptxas)
    spilled = sum(map(int, re.findall(r"(\d+) bytes spill", ptxas)))
    ptx = binary.asm["ptx"]
    return Compiled(
        **known,
        registers=int(registers),
        spilled=spilled,
        shared=binary.metadata.shared,
        loads=_accesses(ptx, "ld"),
        stores=_accesses(ptx, "st"),
        products=" ".join(sorted(set(re.findall(r"\b(wgmma|mma)\.(?:mma_)?(?:a)?sync", ptx)))),
        seconds=time.monotonic() - start,
    )


def _prepare_worker() -> None:
    from triton import knobs
    from triton.runtime import driver

    driver.set_active(Hopper())
    knobs.nvidia.dump_ptxas_log = True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="all dtypes, batches and options")
    parser.add_argument("--jobs", type=int, default=2, help="processes that compile")
    parser.add_argument("--match", default="", help="only kernels whose name contains this")
    parser.add_argument(
        "--out", type=Path, help="write this, and how many launches each operator made, to a JSON file"
    )
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("TRITON_INTERPRET=1 compiles nothing: unset it")
    # The launchers ask whether kernels can run on a CPU. Here they need not; all import it later than this.
    model.ops.why_no_triton = lambda device: None
    recording = all_launches() if arguments.all else launches_of_tests()
    launches = [launch for launch in recording.launches.values() if arguments.match in launch.name]
    results = []
    # Nothing is taken from an older cache, nor left in it.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.jobs, spawn, initializer=_prepare_worker) as pool:
            for result in pool.map(compiled, launches):
                results.append(result)
                print(*asdict(result).values(), sep=" | ", flush=True)
    if arguments.out:
        written = {"operators": recording.operators, "kernels": [asdict(result) for result in results]}
        arguments.out.write_text(json.dumps(written, indent=1))
    failed = sum(bool(result.error) for result in results)
    print(f"{len(results)} compiled, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
