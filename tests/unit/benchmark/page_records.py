"""Records as ``profile`` and ``sweep`` write them, of windows played on a queue of workers and a step."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.profile.phases import Phase
from benchmark.profile.summary import Context, results
from benchmark.record import Record, write_record

ENVIRONMENT = {
    "cpu": "Example CPU @ 2.00GHz",
    "usable_cpus": 2,
    "memory_bytes": 16 * 2**30,
    "gpus": [{"name": "Example GPU", "memory_bytes": 80 * 2**30}],
    "cuda": None,
    "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
    "commit": "0" * 40,
    "dirty": False,
}
H200 = {
    "name": "nvidia-h200",
    "seconds_per_step": 2 / 76.0,
    "accelerators": 1,
    "source": "MLPerf Training v4.0",
    "date": "2024-04-24",
    "assumed": False,
}
PATCH_BYTES = 128**3 * 5
WARMUP, QUEUE = 5, 4


def phase(arm: str, number: int, *, step_ms: float, load_ms: float, steps: int, told: bool) -> Phase:
    """A window in which all workers together take ``load_ms`` for a batch, and the step ``step_ms``.

    With ``told`` false the loader tells nothing of its queue, its work and what it reads.
    """
    rng = np.random.default_rng([number, len(arm), steps])
    fed, played = not arm.startswith("step"), WARMUP + steps
    load = (
        load_ms * rng.lognormal(0, 0.25, played + QUEUE) * np.where(rng.random(played + QUEUE) < 0.01, 8, 1)
    )
    load[:3] *= 6  # nothing is warm yet
    load *= fed * (1.6 if arm.endswith("cold") else 1.0)
    compute = 0.0 if arm.startswith("loader") else step_ms * rng.normal(1, 0.01, played).clip(0.9)
    compute = compute + np.zeros(played)
    begins, answered = np.zeros(played + 1), np.zeros(played)
    finished = np.zeros(played + QUEUE)
    for batch in range(played + QUEUE):
        # A place in the queue is free once the batch QUEUE before has been taken.
        free = answered[batch - QUEUE] if batch >= QUEUE else 0.0
        finished[batch] = max(finished[batch - 1] if batch else 0.0, free) + load[batch]
        if (step := batch - QUEUE + 1) >= 0 and step < played:
            answered[step] = max(begins[step], finished[step]) + 0.02
            begins[step + 1] = answered[step] + compute[step]
    ready = [int((finished[step : step + QUEUE] <= begins[step]).sum()) for step in range(played)]

    def micro(milliseconds: Any, known: bool = True) -> list[int]:
        return [int(value) for value in np.round(milliseconds[WARMUP:played] * 1000)] if known else []

    waited, lasted = answered - begins[:-1], np.diff(begins)
    step_us = micro(lasted)
    read = steps * 2 * 29_000_000 if told and fed else None
    return Phase(
        arm=arm,
        process=number // 3,
        round=number % 3,
        cache="cold" if arm.endswith("cold") else "warm" if fed else "none",
        warmup_us=[int(value) for value in np.round(lasted[:WARMUP] * 1000)],
        step_us=step_us,
        wait_us=micro(waited, fed),
        stall_us=micro(waited, arm.startswith("both")),
        fetch_us=micro(load * 0.3, fed and told),
        prep_us=micro(load * 0.7, fed and told),
        transfer_us=micro(load * 0, fed and told),
        ready=ready[WARMUP:] if fed and told else [],
        window_s=sum(step_us) / 1e6,
        warmup_s=float(lasted[:WARMUP].sum() / 1000),
        bytes_read=read,
        resident_before=10**9 if read else None,
        resident_after=2 * 10**9 if read else None,
    )


def profile_results(
    *,
    loader: str = "pytorch",
    workers: int = 2,
    step_ms: float = 26.3,
    service_ms: float = 60.0,
    emulated: dict[str, Any] | None = None,
    ranks: int = 1,
    steps: int = 100,
    rounds: int = 3,
    patch: int = 128,
    told: bool = True,
) -> dict[str, Any]:
    """Of a profile whose workers take ``service_ms`` for a batch; ``told`` as for ``phase``."""
    arms = ["loader", "step", "both", *(["loader-cold", "both-cold"] if told else [])]
    arms += ["step-local"] if ranks > 1 else []
    sizes: dict[str, Any] = {
        "step_ms": step_ms,
        "load_ms": service_ms / workers,
        "steps": steps,
        "told": told,
    }
    phases = [phase(arm, number, **sizes) for number in range(rounds) for arm in arms]
    context = Context(
        description=f"{loader}, {workers} worker processes, windows read from the files",
        loader=loader,
        step="emulated" if emulated else "voxelrate",
        emulated=emulated,
        batch_size=2,
        ga_steps=1,
        world_size=ranks,
        images_per_step=2 * ranks,
        patch=(patch, patch, patch),
        patch_bytes=PATCH_BYTES,
        device="cpu",
        data_cache="none",
        workers=workers,
        usable_cpus=8.0,
        queue_batches=QUEUE,
        data_bytes=2 * 10**9 if told else None,
        memory_bytes=16 * 2**30,
        rounds=rounds,
    )
    of_ranks = [
        {
            "rank": rank,
            "step_ms": 36.0,
            "stall_ms": 9.0,
            "compute_ms": 27.0,
            "local_ms": 26.0 + 9 * (rank == 3),
        }
        for rank in range(ranks)
    ]
    found = results(context, phases, of_ranks)
    # Tuples come back from a file as lists.
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def nulled(found: dict[str, Any]) -> dict[str, Any]:
    """The same with null for whatever a record may not know, and without what it may not have."""
    findings = found["findings"]
    for name in ("prep_stall", "fetch_stall", "service_ms", "wait", "queue", "read", "residency", "ranks",
                 "allreduce_share", "what_if", "energy_j_per_image", "au_mlperf_storage"):  # fmt: skip
        findings[name] = None
    for name in ("data_stall", "headroom", "contention_tax"):
        findings[name] |= {"low": None, "high": None}
    for rate in findings["rates"].values():
        rate |= {"low": None, "high": None, "steady": False, "unsteady_because": "too few steps"}
    for name in ("stall_share", "cold"):
        del findings[name]
    for one in found["phases"]:
        one |= dict.fromkeys(("wait_us", "stall_us", "ready"), [])
    return found


def record(suite: str, found: dict[str, Any], **changes: Any) -> Record:
    fields = {
        "command": ["python", "-m", "benchmark", suite, "--data_dir", "my data"],
        "environment": ENVIRONMENT,
        "date": "2026-11-25T12:00:00+00:00",
    }
    return Record(suite=suite, results=found, **(fields | changes))


def profile(**options: Any) -> Record:
    return record("profile", profile_results(**options))


def write_sweep(folder: Path, *, steps: int = 100, emulated: dict[str, Any] | None = H200) -> Path:
    """A sweep in ``folder``, of 2 loaders x 6 numbers of workers: nine measured, two failed, one missing."""
    axes = {"loader": ["pytorch", "dali"], "num_workers": ["1", "2", "3", "4", "6", "8"]}
    points: list[dict[str, Any]] = []
    for loader in axes["loader"]:
        for workers in axes["num_workers"]:
            point: dict[str, Any] = {"flags": {"loader": loader, "num_workers": workers}}
            point |= {"status": "ok", "reason": "", "record": None, "results": None}
            points.append(point)
            if loader == "dali" and workers in ("3", "8"):
                point |= {"status": "failed", "reason": "out of memory: ended by signal 9"}
            elif loader == "dali" and workers == "6":
                point["status"] = "missing"
            else:
                service_ms = 90 if loader == "pytorch" else 60
                found = profile_results(
                    loader=loader, workers=int(workers), service_ms=service_ms, emulated=emulated, steps=steps
                )
                point |= {"record": f"point-{len(points):03d}.json", "results": found | {"phases": []}}
                write_record(record("profile", found), folder / point["record"])
    found = {
        "axes": axes,
        "repetitions": 1,
        "complete": False,
        "workers": ["with loader=pytorch 6 workers remove the stall (measured: below 5 %)"],
        "points": points,
    }
    write_record(record("sweep", found), folder / "record.json")
    return folder / "record.json"
