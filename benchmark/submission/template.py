"""A system description with what this machine tells of itself."""

import json
import platform
from pathlib import Path
from typing import Any

from benchmark import environment
from benchmark.submission.system import FIELDS, MAY_BE_EMPTY
from pipelines.errors import DataError

STACK = ("numpy", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "triton", "apex", "mlperf-logging")
"""Packages that belong to the software stack."""


def template() -> dict[str, str]:
    """All fields; those that only the submitter knows are empty, or where there is no GPU N/A."""
    machine = environment.describe()
    gpus = machine["gpus"]
    sockets, cores, threads = processors()
    known = {
        "division": "closed",
        "number_of_nodes": "1",
        "host_processors_per_node": str(sockets),
        "host_processor_model_name": machine["cpu"],
        "host_processor_core_count": str(cores),
        "host_processor_vcpu_count": str(threads),
        "host_memory_capacity": _gib(machine["memory_bytes"]),
        "accelerators_per_node": str(len(gpus)),
        "framework": f"PyTorch {machine['packages']['torch']}",
        "other_software_stack": _stack(machine),
        "operating_system": operating_system(),
    }
    if gpus:
        known |= {
            "accelerator_model_name": " and ".join(sorted({gpu["name"] for gpu in gpus})),
            "accelerator_memory_capacity": _gib(gpus[0]["memory_bytes"]),
        }
    else:
        known |= {field: "N/A" for field in FIELDS if field.startswith("accelerator_")}
    return {field: known.get(field, "") for field in FIELDS}


def write_template(path: Path) -> list[str]:
    """Write it; the names of fields to fill in.

    Raises:
        DataError: The file exists.
        OSError: It cannot be written.
    """
    fields = template()
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
    except FileExistsError as error:
        raise DataError(f"{path} exists, expected a new file; remove it or name another") from error
    return [field for field, value in fields.items() if not value and field not in MAY_BE_EMPTY]


def processors() -> tuple[int, int, int]:
    """(sockets, cores of a socket, hardware threads of a socket) by /proc/cpuinfo.

    A machine that does not tell sockets, as some virtual ones, has one of as many cores as threads.
    """
    text = (environment.SYSTEM / "proc/cpuinfo").read_text(encoding="utf-8")
    found: list[dict[str, str]] = []
    for block in text.strip().split("\n\n"):
        pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
        found.append({name.strip(): value.strip() for name, value in pairs})
    sockets = {cpu["physical id"] for cpu in found if "physical id" in cpu}
    cores = {(cpu["physical id"], cpu["core id"]) for cpu in found if {"physical id", "core id"} <= set(cpu)}
    count = max(1, len(sockets))
    return count, (len(cores) or len(found)) // count, len(found) // count


def operating_system() -> str:
    """Distribution and kernel."""
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, kernel {platform.release()}"


def _stack(machine: dict[str, Any]) -> str:
    drivers = {gpu["driver_version"] for gpu in machine["gpus"] if gpu.get("driver_version")}
    parts = {
        "CUDA": machine["cuda"],
        "cuDNN": machine["cudnn"],
        "driver": " and ".join(sorted(drivers)),
        "Python": machine["python"],
        **{name: machine["packages"].get(name) for name in STACK},
    }
    return ", ".join(f"{name} {version}" for name, version in parts.items() if version)


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.0f} GiB"
