"""Runs the training step, fed by its loader, in slices of time as another process asks for them.

Started by `benchmark.quick` with the flags of ``profile`` after the number of an open file to answer to.
A line of standard input is ``new`` (a fresh child is forked, which warms up), a number of seconds (the
child runs a slice that long) or ``end`` (the child ends). Each answer is a line of JSON; that of a slice
has its images and the seconds that they took. Everything is imported before the fork, so that a fresh
process costs no more than its model and its loader.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from benchmark.profile.command import add_arguments, subject_of
from pipelines.errors import DataError
from preprocess.flags import OneSentenceParser
from runtime.clock import synchronize
from runtime.distributed_utils import join_world
from runtime.errors import RunError


def serve(flags: argparse.Namespace, reply: TextIO) -> int:
    """A child's life, up to ``end``; its exit status."""
    try:
        with join_world(flags.local_rank) as world:
            subject = subject_of(flags, world)
            loader = subject.loader()
            try:
                # The first steps of a slice do not count: what became ready in the pause, and two more.
                queue = subject.config.loader.prefetch * max(1, subject.config.loader.num_workers)
                settling = -(-queue // subject.config.loader.ga_steps) + 2
                steps = subject.steps(iter(loader))
                for _ in range(flags.window_warmup or 5):
                    next(steps)
                synchronize(world.device)
                print("{}", file=reply, flush=True)
                while (line := sys.stdin.readline().strip()) != "end":
                    found = _slice(steps, float(line), settling, world.device)
                    found["images"] = found.pop("steps") * subject.session.global_batch_size
                    print(json.dumps(found), file=reply, flush=True)
            finally:
                loader.close()
    except (DataError, RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _slice(steps: Iterator[Any], seconds: float, settling: int, device: Any) -> dict[str, float]:
    for _ in range(settling):
        next(steps)
    synchronize(device)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(steps)
        count += 1
    synchronize(device)
    return {"steps": count, "seconds": time.perf_counter() - begin}


def main() -> int:
    """The exit status: that of the first child to fail."""
    parser = OneSentenceParser(prog="compare", allow_abbrev=False)
    add_arguments(parser)
    flags = parser.parse_args(sys.argv[2:])
    if flags.accelerators > 1:
        parser.error("--accelerators: --quick compares one rank")
    importlib.import_module(
        "torch._dynamo"
    )  # which the first optimizer of a process takes a second to import
    with os.fdopen(int(sys.argv[1]), "w") as reply:
        # Each request is answered before the next, so that none is left in a buffer that a fork would copy.
        while sys.stdin.readline():
            if child := os.fork():
                _, status = os.waitpid(child, 0)
                if status:
                    return 1
                print("{}", file=reply, flush=True)
            else:
                os._exit(serve(flags, reply))
    return 0


if __name__ == "__main__":
    sys.exit(main())
