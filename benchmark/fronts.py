"""``python -m benchmark fronts``: each way of feeding the step, alone and with the network."""

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmark.record import Record, write_record
from pipelines.base import Batch, Shard
from pipelines.data_loader import build
from pipelines.errors import DataError
from preprocess.flags import positive
from runtime.arguments import parse_arguments
from runtime.clock import synchronize
from runtime.distributed_utils import World, join_world
from runtime.errors import RunError
from runtime.throughput import benchmark_training

FRONTS = {
    "synthetic": ("--loader", "synthetic"),
    "dali-device": ("--loader", "dali", "--data_cache", "device"),
    "dali-device-fp16": ("--loader", "dali", "--data_cache", "device", "--cache_dtype", "float16"),
    "dali-host": ("--loader", "dali", "--data_cache", "host"),
    "dali": ("--loader", "dali"),
    "dali-file": ("--loader", "dali", "--reader", "file"),
    "dali-gds": ("--loader", "dali", "--reader", "gds"),
    "pytorch": ("--loader", "pytorch"),
}
"""Names and the flags of ``main.py`` that they stand for; ``synthetic`` is the ceiling."""

PROFILED_BATCHES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument("--only", type=_names, default=list(FRONTS), help=f"some of {','.join(FRONTS)}")
    parser.add_argument("--seconds", type=positive, default=10, help="for which a loader runs alone (10)")
    parser.add_argument("--json", type=Path, help="also write the record here")
    parser.add_argument(
        "training", nargs="+", metavar="-- FLAG", help="flags of main.py, --data_dir first of all"
    )


def run(flags: argparse.Namespace) -> int:
    """Measure and print, a fresh process for each; 1 where none of them is to be had on this machine.

    Raises:
        OSError: the record cannot be written.
    """
    results: dict[str, Any] = {}
    for name in flags.only:
        arguments = [*flags.training, *FRONTS[name]]
        parse_arguments(arguments)  # wrong flags are answered here, by this process
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            results[name] = fresh.submit(measure, arguments, flags.seconds).result()
        print(json.dumps({name: results[name]}), flush=True)
    if flags.json:
        command = ["python", "-m", "benchmark", *sys.argv[1:]]
        write_record(Record(suite="fronts", command=command, results=results), flags.json)
    return 1 if all("refused" in found for found in results.values()) else 0


def measure(arguments: list[str], seconds: float) -> dict[str, Any]:
    """Rates in images/s; or, as ``refused``, why this front is not to be had."""
    try:
        with join_world(0) as world:
            return alone(arguments, seconds, world) | with_network(arguments, world)
    except (DataError, RunError) as error:
        return {"refused": str(error)}


def alone(arguments: list[str], seconds: float, world: World) -> dict[str, Any]:
    """The loader with nothing to feed: its first batch, its rate, and what it takes of a GPU."""
    config = parse_arguments(arguments).loader
    begin = time.perf_counter()
    loader = build(config, Shard(), world.device)
    try:
        batches = iter(loader)
        next(batches)
        synchronize(world.device)
        first = time.perf_counter()
        # Every case is met several times: caches are full, and all boxes of foreground found.
        for _ in islice(batches, 4 * len(loader)):
            pass
        synchronize(world.device)
        images, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            next(batches)
            images += config.batch_size
        synchronize(world.device)
        rate = images / (time.perf_counter() - start)
        found = {
            "description": loader.description,
            "first_batch_s": first - begin,
            "alone_images_per_s": rate,
        }
        return found | gpu_time(batches, config.batch_size, world)
    finally:
        loader.close()


def gpu_time(batches: Any, batch_size: int, world: World) -> dict[str, Any]:
    """Milliseconds of GPU work (kernels and copies, summed) for an image, as CUPTI sees the whole process."""
    if world.device.type != "cuda":
        return {}
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        taken: list[Batch] = list(islice(batches, PROFILED_BATCHES))
        synchronize(world.device)
    microseconds = sum(event.self_device_time_total for event in found.key_averages())
    return {"gpu_ms_per_image": microseconds / 1000 / (len(taken) * batch_size)}


def with_network(arguments: list[str], world: World) -> dict[str, Any]:
    """The training step, fed by this loader."""
    values = benchmark_training(parse_arguments([*arguments, "--benchmark"]), world).values
    return {"with_network_images_per_s": values["images_per_second"], "last_loss": values["last_loss"]}


def _names(text: str) -> list[str]:
    wanted = text.split(",")
    if unknown := [name for name in wanted if name not in FRONTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(FRONTS)}")
    return [name for name in FRONTS if name in wanted]
