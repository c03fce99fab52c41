"""``python -m benchmark COMMAND``: what is measured beyond a training run's own ``--benchmark``."""

import faulthandler
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import torch

from benchmark import compare, replay, results_table, trace
from benchmark.calibrate import command as calibrate
from benchmark.chaos import command as chaos
from benchmark.gpu_check import command as gpu_check
from benchmark.mllog import command as mllog
from benchmark.page import command as report
from benchmark.peers import command as peers
from benchmark.profile import command as profile
from benchmark.scale import command as scale
from benchmark.soak import command as soak
from benchmark.step import command as step
from benchmark.submission import command as submission
from benchmark.sweep import command as sweep
from pipelines.errors import DataError
from preprocess.flags import OneSentenceParser
from preprocess.untrusted import printable, printable_lines
from runtime.errors import RunError

COMMANDS = {
    "profile": profile,
    "sweep": sweep,
    "compare": compare,
    "calibrate": calibrate,
    "report": report,
    "trace": trace,
    "replay": replay,
    "mllog": mllog,
    "submission": submission,
    "scale": scale,
    "peers": peers,
    "step": step,
    "gpu-check": gpu_check,
    "chaos": chaos,
    "soak": soak,
    "results": results_table,
}
"""Modules with a docstring, ``add_arguments(parser)`` and ``run(flags) -> exit status``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: its exit status, 1 for a failure, 2 for a wrong flag, 130 after Ctrl-C."""
    parser = OneSentenceParser(prog="python -m benchmark", description=(__doc__ or "").split(": ")[1])
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, module in COMMANDS.items():
        purpose = (module.__doc__ or "").partition(": ")[2].strip().splitlines()[0]
        # Sweeps hand flags on by their whole names.
        command = commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    argv = list(sys.argv[1:] if arguments is None else arguments)
    flags = parser.parse_args(argv)
    flags.argv = argv
    try:
        return int(flags.run(flags))
    except torch.OutOfMemoryError as error:
        print(
            f"{parser.prog} {flags.command}: error: out of GPU memory: {_first_line(error)}", file=sys.stderr
        )
        return 1
    except (DataError, RunError, OSError) as error:
        print(f"{parser.prog} {flags.command}: error: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog} {flags.command}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _sentence(error: Exception) -> str:
    """A system's error by file and reason; others speak for themselves."""
    if isinstance(error, OSError) and error.filename:
        return printable(f"{error.filename}: {error.strerror}")
    return printable_lines(str(error))


def _terminate(signum: int, frame: object) -> NoReturn:
    """Let SIGTERM unwind a measurement as Ctrl-C does, so that its processes are ended."""
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    faulthandler.enable()
    sys.exit(main())
