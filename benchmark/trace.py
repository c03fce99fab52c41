"""``python -m benchmark trace``: some steps as a Chrome or Perfetto trace, workers and transfers included."""

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmark.profile.command import add_arguments as add_profile_flags
from benchmark.profile.command import subject_of
from pipelines.telemetry import BatchTimes
from preprocess.flags import positive
from runtime.clock import StepClock, synchronize
from runtime.distributed_utils import join_world

_CLOCK = "voxelrate: clocks meet"
"""A span whose begin is known by both clocks, the profiler's and ``time.perf_counter``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``profile``, and how much to trace."""
    add_profile_flags(parser)
    add = parser.add_argument_group("Tracing").add_argument
    add("--trace_steps", type=positive, default=10, help="steps in the trace")
    add(
        "--nvtx", action="store_true",
        help="emit NVTX ranges for Nsight Systems instead of writing a trace (needs a GPU)",
    )  # fmt: skip


def run(flags: argparse.Namespace) -> int:
    """Trace, write, and say where.

    Raises:
        DataError, RunError: what is to be traced cannot run.
        OSError: the trace cannot be written.
    """
    if flags.accelerators > 1:
        flags.parser.error("--accelerators: a trace is of one rank")
    if flags.nvtx and not torch.cuda.is_available():
        flags.parser.error("--nvtx needs a GPU: without one write a trace")
    with join_world(flags.local_rank) as world:
        subject = subject_of(flags, world)
        config = subject.config
        warmup = min(config.warmup_steps, 2 * config.loader.prefetch * max(1, config.loader.num_workers))
        loader = subject.loader()
        log: list[BatchTimes] = []
        loader.observer = log.append
        try:
            steps = subject.steps(StepClock(world.device).watching(iter(loader)))
            for _ in islice(steps, max(3, warmup)):
                pass
            synchronize(world.device)
            log.clear()
            if flags.nvtx:
                with torch.autograd.profiler.emit_nvtx():
                    _run(steps, flags.trace_steps, world.device)
                return 0
            events = _traced(steps, flags.trace_steps, world.device, log)
        finally:
            loader.close()
        if world.is_main:
            path = (flags.out or config.log_dir) / "trace.json.gz"
            write(events, path)
            print(
                f"trace of {flags.trace_steps} steps: {path} (open it in ui.perfetto.dev or chrome://tracing)"
            )
    return 0


def _run(steps: Iterator[Any], count: int, device: torch.device) -> None:
    for number in range(count):
        with record_function(f"step {number}"):
            next(steps)
    synchronize(device)


def _traced(
    steps: Iterator[Any], count: int, device: torch.device, log: Sequence[BatchTimes]
) -> dict[str, Any]:
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities) as found:
        meeting = time.perf_counter()
        with record_function(_CLOCK):
            pass
        _run(steps, count, device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        events: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    begin = next(event["ts"] for event in events["traceEvents"] if event.get("name") == _CLOCK)
    events["traceEvents"] += worker_events(log, begin, meeting)
    return events


def worker_events(log: Sequence[BatchTimes], begin_us: float, meeting: float) -> list[dict[str, Any]]:
    """What workers did for each sample of the batches, as events of the trace's format.

    Args:
        log: Of the batches that were handed out.
        begin_us: Trace time, in microseconds, of the instant ``meeting``.
        meeting: On the clock of ``time.perf_counter``.
    """
    events: list[dict[str, Any]] = []
    workers = sorted({sample.worker for times in log for sample in times.samples})
    for place, worker in enumerate(workers):
        named = {"ph": "M", "pid": "data pipeline", "tid": worker, "ts": 0}
        events.append(named | {"name": "thread_name", "args": {"name": f"worker {place}"}})
    for batch, times in enumerate(log):
        for sample in times.samples:
            for name, begin, end in (
                ("draw", sample.begin, sample.read_begin),
                ("read", sample.read_begin, sample.read_end),
                ("augment", sample.read_end, sample.end),
            ):
                events.append(
                    {
                        "ph": "X",
                        "cat": "data_pipeline",
                        "name": name,
                        "pid": "data pipeline",
                        "tid": sample.worker,
                        "ts": begin_us + (begin - meeting) * 1e6,
                        "dur": (end - begin) * 1e6,
                        "args": {"batch": batch, "waited_for_data_ms": 1000 * sample.fetch_s},
                    }
                )
    return events


def write(events: dict[str, Any], path: Path) -> None:
    """Write a trace, compressed where the name ends in .gz, whole or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(events).encode()
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(gzip.compress(content, 6) if path.suffix == ".gz" else content)
    temporary.replace(path)
