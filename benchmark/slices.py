"""Runs the training step, fed by its loader, in slices of time as another process asks for them.

Started by `benchmark.quick` with the flags of ``profile`` after the number of an open file to answer to. Each
line of standard input asks for one slice, in seconds; each answer is a line of JSON: steps, and the seconds
that they took.
"""

import argparse
import json
import os
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

SETTLING_STEPS = 2
"""At the beginning of a slice, which do not count: the batches that became ready in the pause."""


def serve(flags: argparse.Namespace, answers: int) -> None:
    """Warm up, say so with an empty answer, and run slices until nothing more is asked for.

    Raises:
        DataError, RunError: it cannot run.
    """
    with join_world(flags.local_rank) as world, os.fdopen(answers, "w") as reply:
        subject = subject_of(flags, world)
        loader = subject.loader()
        try:
            steps = subject.steps(iter(loader))
            for _ in range(flags.window_warmup or 5):
                next(steps)
            synchronize(world.device)
            print("{}", file=reply, flush=True)
            for line in sys.stdin:
                print(json.dumps(_slice(steps, float(line), world.device)), file=reply, flush=True)
        finally:
            loader.close()


def _slice(steps: Iterator[Any], seconds: float, device: Any) -> dict[str, float]:
    for _ in range(SETTLING_STEPS):
        next(steps)
    synchronize(device)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(steps)
        count += 1
    synchronize(device)
    return {"steps": count, "seconds": time.perf_counter() - begin}


def main() -> int:
    """The exit status."""
    parser = OneSentenceParser(prog="compare", allow_abbrev=False)
    add_arguments(parser)
    try:
        serve(parser.parse_args(sys.argv[2:]), int(sys.argv[1]))
    except (DataError, RunError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
