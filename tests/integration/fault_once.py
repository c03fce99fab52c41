"""``main.py``, one of whose ranks meets a fault once: ``fault_once.py FAULT RANK STEP FOLDER FLAGS...``

FAULT is ``killed``, ``stopped``, ``asked`` (to end, by SIGTERM) or ``raises``; it comes after STEP steps. A
file in FOLDER remembers that it has.
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pipelines.errors import DataError  # noqa: E402
from runtime import training  # noqa: E402

FAULT, RANK, STEP, FOLDER, FLAGS = *sys.argv[1:3], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:]

SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "asked": signal.SIGTERM}

train_step, done = training.train_step, 0


def meets() -> None:
    if FAULT == "raises":
        raise DataError("case_00001_x.npy is not what it was")
    os.kill(os.getpid(), SIGNALS[FAULT])


def faulty(*arguments: Any) -> Any:
    global done
    loss = train_step(*arguments)
    done += 1
    if os.environ["RANK"] == RANK and done == STEP and not (FOLDER / "met").exists():
        (FOLDER / "met").touch()
        meets()
    return loss


if __name__ == "__main__":
    training.train_step = faulty
    sys.argv = ["main.py", *FLAGS]
    runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
