"""A file that takes all the room of a file system, and goes on taking what others give back."""

import errno
import os
import threading
from pathlib import Path

_POLL_S = 0.005
NAME = "filler"


class Filler:
    """Fills the file system of ``folder`` from now until `remove`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        self._size = 0
        self._stop = threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._keep_taking, name="filler", daemon=True)
        self._thread.start()

    def remove(self) -> None:
        """Give all the room back. May be called more than once."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            os.close(self._file)
            self._path.unlink()

    def _keep_taking(self) -> None:
        while not self._stop.wait(_POLL_S):
            self._take()

    def _take(self) -> None:
        room = os.statvfs(self._path)
        free = room.f_bavail * room.f_frsize
        if not free:
            return
        try:
            os.posix_fallocate(self._file, self._size, free)
            self._size += free
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # Somebody was faster; what is left is taken next time.
