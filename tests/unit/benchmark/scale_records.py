"""Records with a step of MLPerf's network, made up."""

from dataclasses import replace
from typing import Any

from benchmark.record import Record
from model.unet3d import MLPERF_FILTERS
from tests.unit.benchmark import compared_records

PATCH = [128, 128, 128]


def config(batch: int = 7, ranks: int = 1, **changes: Any) -> dict[str, Any]:
    loader = compared_records.CONFIG["loader"] | {"batch_size": batch, "input_shape": PATCH, "ga_steps": 1}
    own = {"filters": list(MLPERF_FILTERS), "loader": loader, "world_size": ranks, "device": "cuda:0"}
    return compared_records.CONFIG | own | changes


def benchmark(
    rate: float = 80.0, batch: int = 7, ranks: int = 1, width: float = 0.01, **changes: Any
) -> Record:
    """Of ``main.py --benchmark``, ``rate`` images per second of all ranks."""
    return replace(compared_records.benchmark(rate, width), config=config(batch, ranks, **changes))


def profile(rate: float = 80.0, batch: int = 7, **changes: Any) -> Record:
    """With loader and step together at ``rate``."""
    made = compared_records.profile(both=rate)
    own = {"batch_size": batch, "patch": PATCH, "device": "cuda:0"} | changes
    return replace(made, config=config(batch), results=made.results | own)


def step(rates: dict[str, list[float]], batch: int = 2, patch: int = 128) -> Record:
    """Of ``python -m benchmark step``: images per second of contenders by round."""
    contenders = {name: {"images_per_s": values} for name, values in rates.items()}
    batches = [{"batch_size": batch, "contenders": contenders}]
    made = compared_records.profile()
    own = {"patch": patch, "filters": list(MLPERF_FILTERS)}
    return replace(made, suite="step", config=own, results={"time": {"batches": batches}, "claims": []})
