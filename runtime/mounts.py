"""Which file system holds a file, as the kernel tells it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "hugetlbfs", "rootfs")
"""Types of file systems whose files are memory."""

_RAM_DISK_MAJOR = "1"
"""Of block devices (the kernel's admin-guide/devices.txt)."""


@dataclass(frozen=True)
class Mount:
    """One line of proc_pid_mountinfo(5)."""

    device: str
    """``major:minor``."""
    point: Path
    kind: str
    """Type of the file system."""
    source: str
    """Device or server."""
    options: tuple[str, ...]
    """Of the mount, then of its file system."""

    @property
    def in_memory(self) -> bool:
        """Whether its files are memory: that kind of file system, or any on a RAM disk.

        What is below a network file system, FUSE, a loop device or an overlay is not seen.
        """
        ram_disk = self.device.partition(":")[0] == _RAM_DISK_MAJOR or self.source.startswith("/dev/zram")
        return self.kind in IN_MEMORY or ram_disk

    def __str__(self) -> str:
        return f"{self.kind} on {self.source}" if self.in_memory and self.kind not in IN_MEMORY else self.kind


def read_mounts(system: Path = Path("/")) -> tuple[Mount, ...]:
    """The mounts that this process sees, in the order in which they were made.

    Empty where the kernel does not tell them. ``system`` is what lies above /proc.
    """
    try:
        text = (system / "proc/self/mountinfo").read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()
    return tuple(map(_mount, text.splitlines()))


def mount_of(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """The one with the longest path above ``path``, which has no symbolic link in it; None: there is none.

    Of several at one place the last hides the others.
    """
    above = [mount for mount in mounts if path.is_relative_to(mount.point)]
    return max(reversed(above), key=lambda mount: len(str(mount.point)), default=None)


def _mount(line: str) -> Mount:
    mount, _, system = line.partition(" - ")
    _, _, device, _, point, options, *_ = mount.split(" ")
    kind, source, system_options = system.split(" ", 2)
    told = (*options.split(","), *system_options.split(","))
    return Mount(device, Path(_unescaped(point)), kind, _unescaped(source), told)


def _unescaped(text: str) -> str:
    """With the characters that octal numbers stand for."""
    return re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), text)
