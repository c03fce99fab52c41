"""Disks and memory that are full, and checkpoints that are damaged."""

import os
import signal
import time
from pathlib import Path

from benchmark.chaos.checkpoints import family
from benchmark.chaos.faults.base import Fault, MissedError, Scene
from benchmark.chaos.faults.kills import KillTrainer, strike_rank
from benchmark.chaos.filler import Filler
from benchmark.chaos.processes import POLL_S
from benchmark.chaos.running import Run


class FullDisk(Fault):
    """Somebody else fills the disk that checkpoints go to; there is room again when the run is resumed."""

    name = "disk full"
    ranks = (1,)
    needs_mounts = True
    disk_bytes = 4 << 20
    while_starting = False
    statuses = (0, 1)  # 0, should the last checkpoint be written before the room for it is taken
    says = r"the checkpoint cannot be written"

    def strike(self, scene: Scene, run: Run) -> str:
        """Fill it, and keep it full."""
        if run.has_ended():
            raise MissedError
        scene.undo.callback(Filler(scene.checkpoint.parent).remove)
        return "disk of the checkpoints filled"


class TornCheckpoint(KillTrainer):
    """A loss of power that leaves a damaged newest checkpoint."""

    name = "torn checkpoint"
    while_starting = False

    def strike(self, scene: Scene, run: Run) -> str:
        """Kill the trainer, as soon as it has written two."""
        while len(family(scene.checkpoint)) < 2 and not run.has_ended():
            time.sleep(POLL_S)
        return strike_rank(run, 0, signal.SIGKILL)

    def after(self, scene: Scene) -> str:
        """Damage the newest that was left."""
        newest, *others = family(scene.checkpoint)
        if not others:
            raise MissedError
        return f"{newest.name} {_damage(scene, newest)}"


def _damage(scene: Scene, path: Path) -> str:
    size = path.stat().st_size
    how = scene.random.randrange(3)
    if how == 0:
        os.truncate(path, 0)
        return "is empty"
    place = scene.random.randrange(1, size)
    if how == 1:
        os.truncate(path, place)
        return f"cut to {place} of {size} bytes"
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        bit = 1 << scene.random.randrange(8)
        file.write(bytes([byte ^ bit]))
    return f"has another bit in byte {place} of {size}"


class FullSharedMemory(Fault):
    """/dev/shm is full, when the loader asks for its batches or afterwards."""

    name = "/dev/shm full"
    loaders = ("pytorch",)
    ranks = (1,)
    needs_mounts = True
    while_starting = False
    statuses = (0, 1)
    says = r"/dev/shm"

    def before(self, scene: Scene) -> str:
        """Fill it before the run, in half of all cases."""
        if scene.random.random() < 0.5:
            return ""
        self._fill(scene)
        return "filled before the start"

    def strike(self, scene: Scene, run: Run) -> str:
        """Fill it, unless it is."""
        if run.has_ended():
            raise MissedError
        self._fill(scene)
        return "filled"

    def _fill(self, scene: Scene) -> None:
        assert scene.shared_memory
        scene.undo.callback(Filler(scene.shared_memory).remove)
