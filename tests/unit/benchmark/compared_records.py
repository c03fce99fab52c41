"""Records to compare, and the command that compares them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.__main__ import main
from benchmark.record import Record, write_record

CONFIG = {
    "filters": [32, 64], "amp": False, "amp_dtype": "float16", "world_size": 1, "device": "cpu", "seed": 3,
    "log_dir": "a", "optimizer": {"name": "sgd", "momentum": 0.9, "backend": "auto"},
    "loader": {"loader": "pytorch", "batch_size": 2, "input_shape": [64, 64, 64], "layout": "NCDHW",
               "num_workers": 2, "data_dir": "somewhere"},
}  # fmt: skip
ENVIRONMENT = {
    "cpu": "a CPU", "usable_cpus": 2, "memory_bytes": 16 << 30, "gpus": [], "python": "3.11.7",
    "kernel": "6.1", "packages": {"torch": "2.13.0", "numpy": "2.4.6"}, "commit": "0123456789abcdef",
}  # fmt: skip


def rate(value: float, width: float = 0.01, **changes: Any) -> dict[str, Any]:
    return {
        "images_per_s": value, "low": value * (1 - width), "high": value * (1 + width), "steps": 500,
        "steady": True, "unsteady_because": "",
    } | changes  # fmt: skip


def results(loader: float = 50, step: float = 30, both: float = 20, width: float = 0.01) -> dict[str, Any]:
    rates = {name: rate(value, width) for name, value in (("loader", loader), ("step", step), ("both", both))}
    phase = {
        "arm": "both",
        "process": 0,
        "round": 0,
        "cache": "warm",
        "step_us": [7] * 500,
        "wait_us": [1] * 500,
    }
    return {
        "loader": "pytorch", "step": "voxelrate", "emulated": None, "batch_size": 2, "ga_steps": 1,
        "world_size": 1, "patch": [64, 64, 64], "device": "cpu", "workers": 2, "phases": [phase],
        "dataset": {"sha256": "d" * 64}, "pipeline": {"patches": "e" * 64, "seed": 0},
        "findings": {"rates": rates},
    }  # fmt: skip


def profile(**rates: float) -> Record:
    return Record(
        suite="profile", command=["x"], results=results(**rates), config=CONFIG, environment=ENVIRONMENT
    )


def benchmark(rate: float, width: float = 0.01, **changes: Any) -> Record:
    name = "images_per_second"
    values = {name: rate, f"{name}_low": rate * (1 - width), f"{name}_high": rate * (1 + width)}
    return replace(profile(), suite="benchmark-train", results=values | {"step_us": [7] * 500} | changes)


def sweep(points: dict[str, dict[str, Any] | str]) -> Record:
    """Of ``num_workers``: the results of a point, or how it failed."""
    found = [
        {"flags": {"num_workers": name}, "status": "ok", "reason": "", "results": point | {"phases": []}}
        if isinstance(point, dict)
        else {"flags": {"num_workers": name}, "status": "failed", "reason": point, "results": None}
        for name, point in points.items()
    ]
    base = ["--data_dir", "x", "--amp", "--batch_size", "2", "--seconds", "5"]
    return replace(profile(), suite="sweep", config={"base": base}, results={"points": found})


class Compare:
    """Writes two records and compares them: exit status, standard output, standard error."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.a, self.b = folder / "a.json", folder / "b" / "record.json"
        self._capsys = capsys

    def __call__(self, a: Record, b: Record, *flags: str) -> tuple[int, str]:
        write_record(a, self.a)
        write_record(b, self.b)
        return self.run(str(self.a), str(self.b.parent), *flags)

    def run(self, *flags: str) -> tuple[int, str]:
        status = main(["compare", *flags])
        output = self._capsys.readouterr()
        assert bool(output.err) == (status == 1)
        assert output.err.count("\n") == (status == 1)
        return status, output.err or output.out
