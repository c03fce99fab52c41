"""A journal and steps of a GPU check, made up."""

from pathlib import Path
from typing import Any

from benchmark.gpu_check.journal import Journal


def journal(folder: Path, dry: bool = False) -> Journal:
    environment = {
        "cpu": "c", "usable_cpus": 2, "memory_bytes": 9, "gpus": [] if dry else [{"name": "NVIDIA H200"}],
        "kernel": "k", "python": "3.12.0", "packages": {"torch": "2.11.0"}, "cuda": "13.0", "cudnn": 91900,
    }  # fmt: skip
    return Journal(folder, dry, ["python"], environment, {})


def step(images_per_s: float, batch: int = 7, dtype: str = "bfloat16") -> dict[str, Any]:
    return {
        "flags": ["--amp_dtype", dtype], "batch": batch, "steps": 20, "images_per_s": images_per_s,
        "ms_per_step": 1000 * batch / images_per_s, "p10_ms": 1.0, "p50_ms": 2.0, "p90_ms": 3.0,
        "tflops": 2.86 * images_per_s, "peak_bytes": 10**10, "reserved_bytes": 2 * 10**10, "bytes_before": 0,
        "first_loss": 1.0, "last_loss": 0.9,
    }  # fmt: skip
