"""A training run of a soak: started, watched until it has done enough, and asked to end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.chaos.judgement import last_line
from benchmark.chaos.mounts import with_shared_memory
from benchmark.chaos.processes import end_all, left_after, processes_of
from benchmark.environment import ROOT
from benchmark.soak.child import steps_in
from benchmark.soak.sampling import Sample, take
from runtime.errors import RunError

ENDING_LIMIT_S = 30.0

FLAGS = (
    "--filters", "8", "16", "--input_shape", "32", "32", "32", "--val_input_shape", "32", "32", "32",
    "--num_workers", "2", "--batch_size", "2", "--learning_rate", "0.01", "--seed", "3",
    "--epochs", "1000000", "--start_eval_at", "25", "--evaluate_every", "25", "--quality_threshold", "1.0",
    "--save_every_steps", "100",
)  # fmt: skip
"""Of 34 cases of 48^3 voxels 32 are trained on: 16 steps in an epoch, an evaluation every 400 steps, a
checkpoint every 100, and no end."""
CASES, EDGE = 34, 48


@dataclass
class Soak:
    """One run with one loader."""

    loader: str
    samples: list[Sample] = field(default_factory=list)
    status: int | None = None
    """With which it ended; 143 as asked."""
    left: list[str] = field(default_factory=list)
    """Command lines of processes that it left."""


def soak(
    found: Soak,
    work: Path,
    shared_memory: Path | None,
    seconds: float,
    steps: int,
    every_s: float,
    say: Callable[[str], None],
) -> None:
    """Train in ``work``, which has the cases in ``data``, for both ``seconds`` and ``steps``.

    Args:
        found: Takes what is seen, as it is seen.
        work: Folder of the soak.
        shared_memory: Takes the place of /dev/shm; None: the machine's.
        seconds: Least length.
        steps: Least number of steps.
        every_s: Seconds between two samples.
        say: Told how it goes, once a minute.

    Raises:
        RunError: The run ended by itself.
    """
    folder = work / found.loader
    (folder / "tmp").mkdir(parents=True)
    counter, log = folder / "steps", folder / "output"
    command = [
        sys.executable, "-m", "benchmark.soak.child", str(counter), "--data_dir", str(work / "data"),
        "--log_dir", str(folder), "--save_ckpt_path", str(folder / "c.pth"), "--loader", found.loader, *FLAGS,
    ]  # fmt: skip
    if shared_memory:
        command = with_shared_memory(command, shared_memory)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        begin = said = time.monotonic()
        while True:
            time.sleep(every_s)
            now, done = time.monotonic(), steps_in(counter)
            if process.poll() is not None:
                text = log.read_text(encoding="utf-8", errors="replace")
                raise RunError(f"training ended with {process.returncode} by itself: {last_line(text)}")
            pids = processes_of(folder)
            found.samples.append(take(pids, shared_memory or Path("/dev/shm"), now - begin, done))
            if now - said >= 60:
                said = now
                say(describe(found))
            if now - begin >= seconds and done >= steps:
                break
        process.send_signal(signal.SIGTERM)
        found.status = _ended(process)
        found.left = [" ".join(line) for line in left_after(folder, ENDING_LIMIT_S)]
    finally:
        end_all(folder)
        process.wait()


def describe(found: Soak) -> str:
    """The last sample, for a person."""
    last = found.samples[-1]
    return (
        f"{found.loader}: {last.seconds / 60:.1f} min, {last.steps} steps, {last.memory_bytes / 1e6:.1f} MB, "
        f"{last.descriptors} descriptors, {last.threads} threads, in /dev/shm {last.shared_memory_bytes} "
        f"bytes and {last.shared_memory_names} names"
    )


def _ended(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(ENDING_LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
