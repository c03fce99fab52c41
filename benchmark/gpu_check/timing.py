"""Seconds that the device takes for a call: the one place where this check looks at a clock.

On a GPU between CUDA events, on a CPU by ``time.perf_counter``. Where a call takes so little that the host
could not submit the next one in time, the calls are recorded as a CUDA graph, and its replay is timed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from statistics import quantiles
from typing import Any

import torch

from benchmark.gpu_check.scale import Scale
from runtime.clock import synchronize

GRAPHED_BELOW_S = 1e-3
"""Per call. A launch takes the host 5 to 10 microseconds, a call through autograd some launches more."""
RUN_S = 5e-3
"""At least so long is what lies between two events, so that what they take themselves does not count."""
CALLS_OF_GRAPH = 256
"""At most."""
MOST_SAMPLES = 50
MOST_COPIES = 8

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median of the samples and their quartiles."""

    median_s: float
    low_s: float
    high_s: float
    samples: int
    how: str
    """``events``, ``graph`` or ``host clock``."""
    copies: int
    """Sets of inputs that took turns."""

    def values(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)


def time_calls(calls: Sequence[Call], scale: Scale, times: int = 1) -> Timing:
    """Time calls that do the same with different inputs.

    Each is called beforehand, when libraries choose their algorithms and kernels are compiled.

    Args:
        calls: They take turns.
        scale: Says where it runs, and about how long all samples may take.
        times: That many times as long.
    """
    device = scale.device
    _all(calls)
    run: Call = partial(_all, calls)
    once = _elapsed(run, device)
    how, turns = "host clock", 1
    if device.type == "cuda":
        how = "events"
        if once / len(calls) < GRAPHED_BELOW_S:
            how, turns = "graph", min(ceil(RUN_S / once), ceil(CALLS_OF_GRAPH / len(calls)))
            run = _recorded(calls, turns)
            run()
            once = _elapsed(run, device) / turns
        repeats = ceil(RUN_S / (once * turns))
        run, turns = partial(_all, [run] * repeats), turns * repeats
    count = min(MOST_SAMPLES, max(scale.min_samples, round(times * scale.timing_s / (once * turns))))
    found = [_elapsed(run, device) / (turns * len(calls)) for _ in range(count)]
    low, median, high = quantiles(found, n=4, method="inclusive")
    return Timing(median, low, high, count, how, len(calls))


def copies_beyond_cache(bytes_touched: int, device: torch.device) -> int:
    """How many sets of inputs must take turns for each to have left the GPU's L2 cache by its next turn.

    In training a small tensor may well be in that cache, where the operation before has just written it: what
    is measured so is the slower case, and it is said as ``copies``. Weights stay there, and so does what is
    so small that `MOST_COPIES` of it fit.
    """
    if device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return min(MOST_COPIES, max(1, ceil(2 * cache / max(bytes_touched, 1))))


def _all(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _elapsed(run: Call, device: torch.device) -> float:
    if device.type != "cuda":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    synchronize(device)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _recorded(calls: Sequence[Call], repeats: int) -> Call:
    """The replay of a graph of all calls, ``repeats`` times over."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        _all(calls)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            _all(calls)
    return graph.replay
