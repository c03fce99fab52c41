"""Our preprocessing beside the public MLPerf reference's, on the same raw cases and the same cores.

``python -m benchmark.peers.mlperf_preprocess --reference .../unet3d/pytorch --data_dir RAW --rounds 3``

Every run is a fresh process that starts with nothing written and the raw files in the page cache; the sides
take turns, in alternating order. The time is that of the whole process, imports included. For the reference
it covers its ``Preprocessor`` alone, without its verification; ours also hashes and fsyncs every file, the
reference does neither. Memory is read from /proc over the whole process tree every 20 ms, in two ways:

* ``peak_pss_mib``: the largest sum of proportional set sizes; a page that processes share counts once.
* ``peak_rss_mib``: the sum of every process's own high-water mark (VmHWM). Exact for the one process of the
  reference; an upper bound for ours, where shared pages count several times and peaks need not coincide.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.process_tree import TreeMemory
from benchmark.record import report
from preprocess.convert import find_cases
from preprocess.errors import UsageError
from preprocess.files import file_md5

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE_SECONDS = 0.02

_REFERENCE = """
import argparse, sys
sys.path.insert(0, sys.argv[1])
from preprocess_dataset import Preprocessor
Preprocessor(argparse.Namespace(data_dir=sys.argv[2], results_dir=sys.argv[3])).preprocess_dataset()
"""


@dataclass(frozen=True)
class Run:
    """One measured process tree."""

    side: str
    seconds: float
    cases_per_minute: float
    peak_pss_mib: float
    peak_rss_mib: float


def measure(side: str, command: Sequence[str], cases: int, log: Path) -> Run:
    """Run ``command`` from the repository root and watch it.

    Raises:
        UsageError: it failed; the message shows the end of what it printed.
    """
    os.sync()
    with log.open("w") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        tree = TreeMemory()
        while process.poll() is None:
            tree.sample(process.pid)
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise UsageError(f"{side} failed with status {process.returncode}: {log.read_text()[-2000:]}")
    return Run(side, seconds, 60 * cases / seconds, tree.peak_pss / 2**20, tree.peak_rss / 2**20)


def compare(
    reference: Path, data_dir: Path, rounds: int, workers: Sequence[int], scratch: Path
) -> dict[str, object]:
    """Measure all sides ``rounds`` times and check that their files are equal, byte for byte.

    Returns:
        The result as it is printed: the machine, every run, the medians, the ratios to the reference, and
        whether the files were equal.

    Raises:
        UsageError: no cases, a run that failed, or no reference.
    """
    if not (reference / "preprocess_dataset.py").is_file():
        raise UsageError(
            f"no preprocess_dataset.py in {reference}; give the reference's unet3d/pytorch folder"
        )
    cases = find_cases(data_dir)
    raw = [path for case in cases for path in sorted(case.iterdir())]
    raw_bytes = sum(len(path.read_bytes()) for path in raw)
    folder = str(cases[0].parent)
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        out = {side: str(Path(temporary) / side) for side in ["reference", *(f"ours_{n}" for n in workers)]}
        commands = {"reference": [sys.executable, "-c", _REFERENCE, str(reference), folder, out["reference"]]}
        for n in workers:
            flags = ["--data_dir", folder, "--results_dir", out[f"ours_{n}"], "--workers", str(n)]
            commands[f"ours_{n}"] = [sys.executable, "preprocess_dataset.py", *flags]
        runs: list[Run] = []
        equal = True
        for number in range(rounds):
            order = list(commands) if number % 2 == 0 else list(reversed(commands))
            for side in order:
                runs.append(measure(side, commands[side], len(cases), Path(temporary) / "log.txt"))
                print(f"round {number + 1}: {runs[-1]}", file=sys.stderr, flush=True)
            equal &= len({_digests(Path(path)) for path in out.values()}) == 1
            for path in out.values():
                _empty(Path(path))
    return {
        "cases": len(cases),
        "raw_bytes": raw_bytes,
        "runs": [asdict(run) for run in runs],
        "medians": {side: _medians(runs, side) for side in commands},
        "ratios": {side: _ratios(runs, side) for side in commands if side != "reference"},
        "files_equal": equal,
    }


def _digests(folder: Path) -> tuple[tuple[str, str], ...]:
    return tuple((path.name, file_md5(path)) for path in sorted(folder.glob("*.npy")))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _medians(runs: Sequence[Run], side: str) -> dict[str, float]:
    mine = [asdict(run) for run in runs if run.side == side]
    names = ("seconds", "cases_per_minute", "peak_pss_mib", "peak_rss_mib")
    return {name: statistics.median(run[name] for run in mine) for name in names}


def _ratios(runs: Sequence[Run], side: str) -> dict[str, float]:
    """How many times the reference's speed, and which part of its memory."""
    ours, theirs = _medians(runs, side), _medians(runs, "reference")
    return {name: ours[name] / theirs[name] for name in ("cases_per_minute", "peak_pss_mib", "peak_rss_mib")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit status 0, 1 when files differ, 2 when nothing could be measured."""
    flags = argparse.ArgumentParser(
        prog="python -m benchmark.peers.mlperf_preprocess",
        description="Time our preprocessing beside the public MLPerf reference's; prints a record (JSON).",
    )
    flags.add_argument("--reference", type=Path, required=True, help="the reference's unet3d/pytorch folder")
    flags.add_argument("--data_dir", type=Path, required=True, help="raw cases, all below 210")
    flags.add_argument("--rounds", type=int, default=3, help="how often each side runs (default: 3)")
    flags.add_argument(
        "--workers", type=int, nargs="+", default=[2, 1], help="our worker counts (default: 2 1)"
    )
    flags.add_argument("--scratch", type=Path, help="where to write the outputs (default: the system's)")
    flags.add_argument("--json", type=Path, help="also write the record here")
    options = flags.parse_args(arguments)
    try:
        result = compare(
            options.reference.resolve(),
            options.data_dir.resolve(),
            options.rounds,
            options.workers,
            options.scratch,
        )
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report("preprocess-beside-mlperf-reference", "benchmark.peers.mlperf_preprocess", result, options.json)
    return 0 if result["files_equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
