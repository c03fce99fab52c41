"""The step times that a record holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.anchors import PATCH
from benchmark.gpu_check.journal import OK
from benchmark.record import Record, read_record
from model.unet3d import MLPERF_FILTERS
from pipelines.errors import DataError


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step, and their 95 % interval where the record has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is taken from a record."""

    ranks: int
    """That ran the step together."""
    steps: Mapping[int, StepTime]
    """By images per rank."""
    gradient_dtype: str = "float32"
    """In which the ranks exchanged gradients."""
    remarks: tuple[str, ...] = ()
    """What to know of the times."""


def read_measured(path: Path) -> Measured:
    """The step times of a record, ``path`` or the ``record.json`` of a folder.

    Raises:
        DataError: No record, one without the time of a training step, or of another network or patch than
            MLPerf's.
        OSError: There is no such file.
    """
    record = read_record(path)
    if record.suite not in _READERS:
        raise DataError(
            f"{path} has no step time: it is of suite {record.suite}{_HINTS.get(record.suite, '')}; expected "
            f"one of {', '.join(_READERS)}"
        )
    try:
        return _READERS[record.suite](record, path)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DataError(
            f"{path} has no step time as suite {record.suite} has it ({error!r}): was it edited?"
        ) from error


def _benchmark(record: Record, path: Path) -> Measured:
    config, name = record.config, "images_per_second"
    loader, ranks = config["loader"], config["world_size"]
    _mlperf(path, loader["input_shape"], config["filters"], loader["ga_steps"])
    low, high = (record.results.get(f"{name}_{end}") for end in ("low", "high"))
    step = _step_time(loader["batch_size"] * ranks, record.results[name], low, high)
    remarks = [f"the whole pipeline, loader {loader['loader']}", *_device(config["device"])]
    if not record.results.get("steady", True):
        remarks.append(f"UNSTEADY: {record.results['unsteady_because']}")
    return Measured(
        ranks=ranks,
        steps={loader["batch_size"]: step},
        gradient_dtype=_gradient_dtype(config),
        remarks=tuple(remarks),
    )


def _profile(record: Record, path: Path) -> Measured:
    results = record.results
    if results["emulated"]:
        raise DataError(
            f"{path} has no step time: the step was emulated by {results['emulated']['name']}, a published "
            "time; profile without --emulate"
        )
    if results["findings"] is None:
        raise DataError(f"{path} was interrupted before all arms were measured: measure again")
    if results["step"] != "voxelrate":
        raise DataError(f"{path} is of the step {results['step']}, whose gradients nobody counts here")
    _mlperf(path, results["patch"], record.config["filters"], results["ga_steps"])
    rate, batch, ranks = results["findings"]["rates"]["both"], results["batch_size"], results["world_size"]
    step = _step_time(batch * ranks, rate["images_per_s"], rate["low"], rate["high"])
    return Measured(
        ranks=ranks,
        steps={batch: step},
        gradient_dtype=_gradient_dtype(record.config),
        remarks=(f"loader and step together, loader {results['loader']}", *_device(results["device"])),
    )


def _gpu_check(record: Record, path: Path) -> Measured:
    best: dict[int, tuple[float, str]] = {}
    for item in record.results["sections"].get("ladder", {"items": []})["items"]:
        if item["status"] == OK and item["values"]:
            batch, found = item["values"]["batch"], (item["values"]["images_per_s"], item["name"])
            best[batch] = max(best.get(batch, found), found)
    if not best:
        raise DataError(f"{path} has no step time: no step of its ladder was finished; check again")
    names = ", ".join(f"{name} (batch {batch})" for batch, (_, name) in sorted(best.items()))
    return Measured(
        ranks=1,
        steps={batch: _step_time(batch, rate) for batch, (rate, _) in best.items()},
        remarks=(f"the fastest of the ladder, on resident batches, without a loader: {names}",),
    )


def _step(record: Record, path: Path) -> Measured:
    if not record.results["time"]:
        raise DataError(f"{path} has no step time: launches were counted, nothing timed; add time to --what")
    edge = record.config["patch"]
    _mlperf(path, (edge,) * 3, record.config["filters"], 1)
    steps, names = {}, []
    for batch in record.results["time"]["batches"]:
        rates = {
            name: median(found["images_per_s"])
            for name, found in batch["contenders"].items()
            if name.startswith("ours")
        }
        if not rates:
            raise DataError(f"{path} has no step time: of the contenders none is ours")
        name = max(rates, key=rates.__getitem__)
        steps[batch["batch_size"]] = _step_time(batch["batch_size"], rates[name])
        names.append(f"{name} (batch {batch['batch_size']})")
    remark = f"the fastest of ours, median over rounds, without a loader: {', '.join(names)}"
    return Measured(ranks=1, steps=steps, remarks=(remark, *_device("cpu")))


_READERS: dict[str, Callable[[Record, Path], Measured]] = {
    "benchmark-train": _benchmark,
    "profile": _profile,
    "gpu-check": _gpu_check,
    "step": _step,
}
_HINTS = {
    "benchmark-evaluate": ", which times evaluations",
    "gpu-check-dry-run": ", whose numbers are no measurements",
    "sweep": ", which has many: give the record of one of its points",
}


def _step_time(images: int, rate: float, low: float | None = None, high: float | None = None) -> StepTime:
    if images < 1 or rate <= 0:
        raise ValueError(f"{images} images at {rate} images/s")
    if low is None or high is None:
        return StepTime(images / rate)
    if not 0 < low <= rate <= high:
        raise ValueError(f"{rate} images/s are not within [{low}, {high}]")
    return StepTime(images / rate, images / high, images / low)


def _mlperf(path: Path, patch: Any, filters: Any, ga_steps: int) -> None:
    if tuple(patch) != PATCH or tuple(filters) != MLPERF_FILTERS:
        raise DataError(
            f"{path} is of {'x'.join(map(str, patch))} patches and filters {' '.join(map(str, filters))}: "
            f"expected MLPerf's, {'x'.join(map(str, PATCH))} and {' '.join(map(str, MLPERF_FILTERS))}"
        )
    if ga_steps != 1:
        raise DataError(f"{path} is of steps of {ga_steps} micro-batches: measure with --ga_steps 1")


def _gradient_dtype(config: Mapping[str, Any]) -> str:
    return str(config.get("speed", {}).get("ddp_gradient_dtype", "float32"))


def _device(name: str) -> list[str]:
    return (
        [] if name.startswith("cuda") else [f"measured on {name}; the network is a DGX H100's if not given"]
    )
