"""Cases that go bad while they are read."""

import os
import shutil
from pathlib import Path

import numpy as np

from benchmark.chaos.configurations import EDGE
from benchmark.chaos.faults.base import Fault, MissedError, Scene
from benchmark.chaos.running import Run


class BadCase(Fault):
    """One of the cases goes bad, and is made good again before the run is resumed."""

    copies_data = True
    while_starting = False
    latest = 0.6
    flags = ("--on_bad_case", "stop")
    statuses = (1,)
    pattern = "case_*.npy"
    """Of the files that may go bad."""

    def strike(self, scene: Scene, run: Run) -> str:
        """Spoil a case."""
        path = scene.random.choice(sorted(scene.data.glob(self.pattern)))
        if run.has_ended():
            raise MissedError
        what = self.spoil(scene, path)
        scene.undo.callback(shutil.copyfile, scene.pristine / path.name, path)
        self.says = path.name.rpartition("_")[0]
        return f"{path.name} {what}"

    def spoil(self, scene: Scene, path: Path) -> str:
        """Do it; what was done."""
        raise NotImplementedError


class TruncatedCase(BadCase):
    """A file of the data set is cut short."""

    name = "case truncated"

    def spoil(self, scene: Scene, path: Path) -> str:
        """Cut it in its first half: patches of half an edge then need what is gone."""
        size = scene.random.randrange(path.stat().st_size // 2)
        os.truncate(path, size)
        return f"cut to {size} bytes"


class NanCase(BadCase):
    """An image gets values that are no numbers."""

    name = "NaN in a case"
    pattern = "case_*_x.npy"

    def spoil(self, scene: Scene, path: Path) -> str:
        """Write NaN where every patch of half an edge sees some of it."""
        plane = EDGE * EDGE * 4
        with path.open("r+b") as file:
            file.seek(path.stat().st_size - EDGE * plane + (EDGE // 2 - 1) * plane)
            file.write(np.full(2 * EDGE * EDGE, np.nan, np.float32).tobytes())
        return "has two planes of NaN"
