"""Memory that the processes of one machine share and that nobody has to clean up.

It is a ``memfd``: it has no name in any file system, ``/dev/shm`` sets it no limit, and the kernel frees it
when the last process that has it ends, by whatever signal.
"""

import errno
import fcntl
import math
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipelines.base import Neighbours
from pipelines.errors import DataError

_RETRY_S = 0.002


class SharedBlock:
    """Zeroed bytes, and a lock for each of ``num_locks`` things that are kept in them.

    Forked children have it as it is; another process of the same user and PID namespace has it by
    ``SharedBlock(*block.key)``, which is also what pickling does, as long as its maker lives.
    """

    def __init__(self, size: int, num_locks: int, address: str | None = None) -> None:
        self._locks = [threading.Lock() for _ in range(num_locks)]
        if address is None:
            self._descriptor = os.memfd_create("voxelrate", os.MFD_CLOEXEC)
            os.ftruncate(self._descriptor, size)
            address = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        else:
            self._descriptor = os.open(address, os.O_RDWR | os.O_CLOEXEC)
        self.key = (size, num_locks, address)
        self._memory = mmap.mmap(self._descriptor, size)

    def __reduce__(self) -> tuple[type["SharedBlock"], tuple[int, int, str]]:
        return SharedBlock, self.key

    def __del__(self) -> None:
        # The mapping lives on as long as an array of it does.
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def array(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
        """A writable array of the bytes from ``offset`` on."""
        flat: NDArray[np.generic] = np.frombuffer(self._memory, dtype, math.prod(shape), offset)
        return flat.reshape(shape)

    @contextmanager
    def locked(self, index: int) -> Iterator[None]:
        """Hold lock number ``index`` against all threads and processes; the kernel takes it from the dead."""
        with self._locks[index]:
            # Waiting in the kernel would be refused as a deadlock (EDEADLK) where two processes wait for each
            # other in different threads: it does not tell the threads of a process apart.
            while not self._try_lock(index):
                time.sleep(_RETRY_S)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, index)

    def _try_lock(self, index: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            return False
        return True


def one_for_all(size: int, num_locks: int, neighbours: Neighbours) -> SharedBlock:
    """One block that all ranks of this machine have; every rank must ask for it.

    Raises DataError where a rank cannot reach the block of the first.
    """
    mine: list[SharedBlock] = []

    def make() -> tuple[int, int, str]:
        mine.append(SharedBlock(size, num_locks))
        return mine[0].key

    key = neighbours.agree(make)
    refused: OSError | None = None
    if not mine:
        try:
            mine.append(SharedBlock(*key))
        except OSError as error:
            refused = error
    # The block can be reached as long as the first rank lives: it goes on, and may fail, when all have it.
    neighbours.agree(lambda: None)
    if refused:
        raise DataError(
            f"cannot share memory with the first rank of this machine ({key[2]}: {refused.strerror}): start "
            "all its ranks as one user and in one container"
        ) from refused
    return mine[0]
