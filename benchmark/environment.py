"""What machine and software a number was measured on."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from benchmark.nvml import describe_gpu
from runtime.mounts import mount_of, read_mounts

PACKAGES = (
    "torch", "numpy", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "triton", "nibabel", "apex", "scipy",
    "monai", "nnunetv2", "batchgeneratorsv2", "blosc2", "matplotlib", "nvidia-ml-py",
    "connected-components-3d", "mlperf-logging",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent

SYSTEM = Path("/")
"""Above /proc and /sys; tests have their own."""

_NO_LIMIT = 1 << 62
"""Bytes from which a limit is none: version 1 of control groups says 2^63 less a page for unlimited."""

_MOUNT_OPTIONS = {
    "ro", "rw", "sync", "dirsync", "noatime", "relatime", "strictatime", "nodiratime", "lazytime", "discard",
    "dax", "barrier", "nobarrier", "data", "commit", "stripe", "allocsize", "compress", "compress-force",
    "nodatacow", "nodatasum", "ssd", "space_cache", "size", "huge", "vers", "proto", "rsize", "wsize",
    "nconnect", "hard", "soft", "noac", "actimeo", "lookupcache", "fsc", "cache", "max_read", "direct_io",
}  # fmt: skip
"""What can change how fast files are read. Others are left out: some hold addresses, paths or users."""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> dict[str, Any]:
    """Commit and whether tracked files differ from it; empty outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def _text(path: str) -> str | None:
    """The stripped text of a file of the kernel; None where this machine has none that we may read."""
    try:
        return (SYSTEM / path).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _control_groups(controller: str) -> list[str]:
    """The folders of the control groups that hold this process, from its own up to the root.

    Version 2 has one tree, version 1 one for each controller. Inside a container a tree may begin at its own
    group, so that the first ones do not exist.
    """
    found = []
    for line in (_text("proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            tree = "sys/fs/cgroup" + (f"/{controller}" if controllers else "")
            parts = [part for part in path.split("/") if part]
            found += ["/".join([tree, *parts[:length]]) for length in range(len(parts), -1, -1)]
    return found


def _cpu_quota() -> float | None:
    """CPUs that the tightest control group grants (1.5: three halves of one CPU's time); None: no limit."""
    quotas = []
    for group in _control_groups("cpu"):
        words = (_text(f"{group}/cpu.max") or "").split()
        if not words:
            words = [_text(f"{group}/cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
        if all(word.isdigit() for word in words):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _memory_limit() -> int | None:
    """Bytes that the tightest control group grants; None: no limit."""
    texts = [
        _text(f"{group}/{name}")
        for group in _control_groups("memory")
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    limits = [int(text) for text in texts if text is not None and text.isdigit()]
    return min((limit for limit in limits if limit < _NO_LIMIT), default=None)


def _huge_pages() -> str | None:
    """``always``, ``madvise`` or ``never``: who gets transparent huge pages."""
    chosen = re.search(r"\[(\w+)\]", _text("sys/kernel/mm/transparent_hugepage/enabled") or "")
    return chosen[1] if chosen else None


def _governors(cpus: list[int]) -> list[str] | None:
    """The governors of the clocks of ``cpus``, each once; None where the machine does not tell."""
    texts = [_text(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor") for cpu in cpus]
    return sorted({text for text in texts if text}) or None


def describe_storage(path: Path) -> dict[str, Any]:
    """The file system that holds ``path``, without the name of its device or server.

    ``read_ahead_kb`` is None where the kernel does not tell it, ``total_bytes`` and ``free_bytes`` (for this
    user) are those of the file system.

    Raises:
        OSError: there is no such path.
    """
    resolved = path.resolve(strict=True)
    mount = mount_of(resolved, read_mounts(SYSTEM))
    options = set(mount.options) if mount else set()
    usage = shutil.disk_usage(resolved)
    return {
        "filesystem": mount.kind if mount else None,
        "mount_options": sorted(o for o in options if o.partition("=")[0] in _MOUNT_OPTIONS),
        "read_ahead_kb": _read_ahead(mount.device) if mount else None,
        "total_bytes": usage.total,
        "free_bytes": usage.free,
    }


def _read_ahead(device: str) -> int | None:
    """Kilobytes that the kernel reads ahead; a partition has the setting of its disk."""
    block = f"sys/dev/block/{device}"
    places = (f"sys/class/bdi/{device}", f"{block}/queue", f"{block}/../queue")
    texts = [_text(f"{place}/read_ahead_kb") for place in places]
    return next((int(text) for text in texts if text), None)


def describe() -> dict[str, Any]:
    """CPU, memory, GPU, versions and commit, as plain values for a record.

    A limit of the control group that is not set, and what this machine does not tell, is None. Each GPU has
    its name and memory and, where there is NVML, the values of `benchmark.nvml.describe_gpu`.
    """
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    affinity = sorted(os.sched_getaffinity(0))
    return {
        "cpu": _cpu_model(),
        "usable_cpus": len(affinity),
        "cpu_affinity": affinity,
        "cpu_quota": _cpu_quota(),
        "cpu_governors": _governors(affinity),
        "load_average": list(os.getloadavg()),
        "torch_threads": {"intra_op": torch.get_num_threads(), "inter_op": torch.get_num_interop_threads()},
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "memory_limit_bytes": _memory_limit(),
        "transparent_huge_pages": _huge_pages(),
        "gpus": [
            {"name": gpu.name, "memory_bytes": gpu.total_memory} | describe_gpu(index)
            for index, gpu in enumerate(gpus)
        ],
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": _versions(),
        **_commit(),
    }
