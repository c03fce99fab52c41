"""Phases of a made-up profile."""

from typing import Any

from benchmark.profile.phases import Phase
from benchmark.profile.summary import Context


def context(**change: Any) -> Context:
    values: dict[str, Any] = {
        "description": "pytorch, 1 worker processes, windows read from the files",
        "loader": "pytorch",
        "step": "voxelrate",
        "emulated": None,
        "batch_size": 2,
        "ga_steps": 1,
        "world_size": 1,
        "images_per_step": 2,
        "patch": [128, 128, 128],
        "patch_bytes": 5 * 128**3,
        "device": "cuda",
        "data_cache": "none",
        "workers": 1,
        "usable_cpus": 4,
        "queue_batches": 2,
        "data_bytes": 10**9,
        "memory_bytes": 10**9,
        "rounds": 3,
    }
    return Context(**(values | change))


def phase(arm: str, step_ms: float, number: int = 0, **change: Any) -> Phase:
    """50 steps that alternate by 1 % around ``step_ms``."""
    steps = [round(1000 * step_ms * (0.99 if k % 2 else 1.01)) for k in range(50)]
    values: dict[str, Any] = {
        "arm": arm,
        "process": 0,
        "round": number,
        "cache": "as found",
        "warmup_us": steps[:3],
        "step_us": steps,
        "window_s": sum(steps) / 1e6,
        "warmup_s": 0.1,
    }
    per_step = {name: [round(1000 * value)] * 50 for name, value in change.items() if name.endswith("_us")}
    return Phase(**(values | change | per_step))


def profile(
    loader_ms: float, step_ms: float, both_ms: float, stall_ms: float, **services_ms: float
) -> list[Phase]:
    """Three rounds of all arms; ``services_ms`` as ``fetch_us=...``, in milliseconds."""
    found = []
    for number in range(3):
        found += [
            phase("loader", loader_ms, number, wait_us=loader_ms, **services_ms),
            phase("step", step_ms, number),
            phase("both", both_ms, number, wait_us=stall_ms, stall_us=stall_ms, **services_ms),
        ]
    return found
