"""What a rate was measured of and on: two rates compare where their fingerprints agree.

What only decides how well it was measured (seconds, rounds, warm-up), where files lie, and the commit do not
count: comparing commits is what records are for.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from benchmark.record import Record

_CONFIG = (
    "exec_mode", "filters", "normalization", "activation", "amp", "world_size", "device",
)  # fmt: skip
_SPEED = (
    "recompute_norm", "shadow_weights", "cuda_graph", "compile", "static_loss_scale", "cudnn_benchmark",
    "cudnn_benchmark_limit", "cudnn_deterministic", "ddp_one_bucket", "ddp_gradient_dtype", "val_batch_size",
)  # fmt: skip
_LOADER = (
    "loader", "batch_size", "ga_steps", "num_workers", "prefetch", "oversampling", "brightness", "last_batch",
    "layout", "image_dtype", "sharding", "data_cache", "cache_dtype", "reader", "dali_device",
)  # fmt: skip
_RESULTS = ("loader", "step", "batch_size", "ga_steps", "world_size", "data_cache")
_MACHINE = ("cpu", "usable_cpus", "cpu_quota", "cpu_governors", "cuda", "cudnn")
_PACKAGES = ("torch", "numpy", "nvidia-dali-cuda120", "nvidia-dali-cuda130", "triton", "apex")
_OF_SWEEPS = frozenset({
    "data_dir", "evaluation_cases", "log_dir", "out", "seconds", "rounds", "steps", "window_warmup",
    "seed", "verbose", "loader_timeout", "process",
})  # fmt: skip
"""Flags of a sweep's points that do not count."""
_COMPUTED = (
    "patch", "optimizer", "ops", "emulated", "dataset", "pipeline", "cache", "flags", "memory", "gpus",
    "gpu_driver", "torch_threads", "filesystem", "python",
)  # fmt: skip
KEYS = tuple(sorted({*_CONFIG, *_SPEED, *_LOADER, *_RESULTS, *_MACHINE, *_PACKAGES, *_COMPUTED}))
"""What a fingerprint may have beside the suite; those of the configuration are named as the flags are."""


def fingerprint(record: Record) -> dict[str, str]:
    """What decides the rates in ``record``, by `KEYS`; what the record does not tell is absent.

    A sweep's point is its record with the point's ``results``.
    """
    config, results, environment = record.config, record.results, record.environment
    loader = config.get("loader")
    loader = loader if isinstance(loader, dict) else {}
    found: dict[str, Any] = {"suite": record.suite}
    found |= {name: config.get(name) for name in _CONFIG} | {name: loader.get(name) for name in _LOADER}
    # Records from before there were other fast paths have cuDNN's flags beside the others.
    speed = config.get("speed") or config
    found |= {name: speed.get(name) for name in _SPEED}
    found["ops"] = _ops(results.get("ops") or config.get("ops") or {})
    if config.get("amp"):
        found["amp"] = config.get("amp_dtype")
    optimizer = config.get("optimizer") or {}
    found["optimizer"] = " ".join(filter(None, (optimizer.get("name"), optimizer.get("backend")))) or None
    found |= {name: results[name] for name in _RESULTS if name in results}
    found["num_workers"] = results.get("workers", found["num_workers"])
    found["patch"] = _joined("x", results.get("patch") or loader.get("input_shape"))
    # Of several GPUs each rank names its own.
    found["device"] = str(results.get("device") or found["device"] or "").partition(":")[0] or None
    found["emulated"] = _emulated(results.get("emulated"))
    found["dataset"] = _start_of((results.get("dataset") or {}).get("sha256"))
    found["pipeline"] = _pipeline(results.get("pipeline") or {})
    found["cache"] = _joined(
        ", ", sorted({phase.get("cache", "none") for phase in results.get("phases", ())})
    )
    found["flags"] = _flags(config.get("base"))
    found |= {name: environment.get(name) for name in _MACHINE}
    found |= {name: environment.get("packages", {}).get(name) for name in _PACKAGES}
    if memory := environment.get("memory_bytes"):
        found["memory"] = f"{memory / 2**30:.0f} GiB"  # kernels keep a few MiB more or less for themselves
    found["python"] = ".".join(environment.get("python", "").split(".")[:2]) or None
    gpus = environment.get("gpus") or []
    found["gpus"] = _joined(", ", [gpu.get("name") for gpu in gpus])
    found["gpu_driver"] = gpus[0].get("driver_version") if gpus else None
    found["torch_threads"] = (environment.get("torch_threads") or {}).get("intra_op")
    found["filesystem"] = (environment.get("storage") or {}).get("filesystem")
    return {name: _text(value) for name, value in found.items() if value is not None}


def differences(a: Mapping[str, str], b: Mapping[str, str], ignored: Collection[str] = ()) -> list[str]:
    """Where two fingerprints differ, one phrase for each key."""
    return [
        f"{key} ({a.get(key, 'absent')} in A, {b.get(key, 'absent')} in B)"
        for key in sorted(a.keys() | b.keys())
        if key not in ignored and a.get(key) != b.get(key)
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _joined(between: str, values: Collection[Any] | None) -> str | None:
    return between.join(map(str, values)) if values else None


def _start_of(digest: str | None) -> str | None:
    """Enough of a hash to tell it from others."""
    return digest[:16] if digest else None


def _pipeline(found: Mapping[str, Any]) -> str | None:
    """The hash of the first patches, which is of the seed too."""
    patches = _start_of(found.get("patches"))
    return f"{patches} of seed {found['seed']}" if patches and "seed" in found else patches


def _emulated(found: Mapping[str, Any] | None) -> str | None:
    names = ("accelerators", "name", "seconds_per_step")
    return _joined(" ", [found[name] for name in names if name in found]) if found else None


def _ops(backends: Mapping[str, str]) -> str | None:
    """Who computes what, where it is not PyTorch's own modules."""
    return ", ".join(f"{op} {name}" for op, name in backends.items() if name != "native") or None


def _flags(words: Collection[str] | None) -> str | None:
    """A sweep's common flags, sorted, without those that do not count."""
    if words is None:
        return None
    flags: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            flags[name] = [value] if value else []
        elif flags:
            flags[list(flags)[-1]].append(word)
    return " ".join(f"{name}={','.join(flags[name])}" for name in sorted(flags.keys() - _OF_SWEEPS)) or None
