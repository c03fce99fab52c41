"""Runs the training step, fed by its loader, in slices of time as another process asks for them.

Started by `benchmark.quick`. A line of standard input is JSON: ``answers`` and ``requests``, the names of
two FIFOs, and ``flags``, of ``profile``. A child is forked for it, which opens the FIFOs in that order,
warms up and answers with an empty line of JSON; then each request is a number of seconds, of a slice that
long, and its answer has the images and the seconds that they took. The child ends with its requests.
Everything is imported before the fork, so that a fresh process costs no more than its model and its
loader; and all children have the same libraries at the same places in memory, which else makes processes
of the same code differ.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmark.profile.command import add_arguments, subject_of
from pipelines.errors import DataError
from preprocess.flags import OneSentenceParser
from runtime.clock import synchronize
from runtime.distributed_utils import join_world
from runtime.errors import RunError


def serve(parser: argparse.ArgumentParser, asked: dict[str, Any]) -> int:
    """A child's life; its exit status."""
    with open(asked["answers"], "w", encoding="ascii") as answers, open(asked["requests"]) as requests:
        flags = parser.parse_args(asked["flags"])
        if flags.accelerators > 1:
            parser.error("--accelerators: --quick compares one rank")
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
                    print("{}", file=answers, flush=True)
                    for line in requests:
                        count, seconds = _slice(steps, float(line), settling, world.device)
                        found = {"images": count * subject.session.global_batch_size, "seconds": seconds}
                        print(json.dumps(found), file=answers, flush=True)
                finally:
                    loader.close()
        except (DataError, RunError, OSError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return 1
    return 0


def _slice(steps: Iterator[Any], seconds: float, settling: int, device: Any) -> tuple[int, float]:
    for _ in range(settling):
        next(steps)
    synchronize(device)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(steps)
        count += 1
    synchronize(device)
    return count, time.perf_counter() - begin


def main() -> int:
    """Fork children until there are no more requests."""
    parser = OneSentenceParser(prog="compare", allow_abbrev=False)
    add_arguments(parser)
    importlib.import_module(
        "torch._dynamo"
    )  # which the first optimizer of a process takes a second to import
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    while line := sys.stdin.readline():
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                os._exit(serve(parser, json.loads(line)))
            except SystemExit as wrong:  # of the parser, which has said why
                sys.stderr.flush()
                os._exit(2 if wrong.code else 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
