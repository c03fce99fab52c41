"""Small cases to train on."""

import subprocess
import sys
from pathlib import Path

from benchmark.environment import ROOT
from runtime.errors import RunError


def make_phantoms(folder: Path, cases: int, edge: int) -> None:
    """Write preprocessed phantom cases of ``edge``^3 voxels to ``folder``.

    Raises:
        RunError: They cannot be made.
    """
    command = ["-m", "preprocess.phantom", "--preprocessed", "--out", str(folder), "--cases", str(cases)]
    done = subprocess.run(
        [sys.executable, *command, "--shape", *[str(edge)] * 3],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RunError(f"no phantom cases could be made: {done.stderr.strip()}")
