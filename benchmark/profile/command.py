"""``python -m benchmark profile``: the data pipeline against the compute, and what holds training back."""

import argparse
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark import anchors
from benchmark.page.command import write_page
from benchmark.profile.launch import launch
from benchmark.profile.phases import Lengths
from benchmark.profile.recording import identity_of, record_of
from benchmark.profile.session import Course, Rounds
from benchmark.profile.subject import Subject
from benchmark.profile.summary import longest, of_rank
from benchmark.profile.text import lines
from benchmark.record import write_record
from pipelines.config import LOADERS
from pipelines.dataset import split_cases
from pipelines.errors import DataError
from preprocess.flags import positive
from runtime.arguments import RunConfig, add_run_flags, run_config
from runtime.distributed_utils import World, gather, join_world, local_rank_of_launcher
from runtime.errors import RunError
from runtime.files import set_aside
from runtime.loader_arguments import number

MIN_STEPS = 20
"""Of a window, where nobody says how many."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``main.py``, and those of the measurement."""
    add_run_flags(parser, local_rank_of_launcher(), loader=loader_name)
    add_measuring_flags(parser)
    parser.set_defaults(parser=parser, seed=0)


def add_measuring_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say how to measure."""
    add = parser.add_argument_group("Measuring").add_argument
    add("--rounds", type=positive, default=5, help="how often each arm is measured, in alternating order")
    add("--seconds", type=number(float, 0.0, above=True), default=5.0, help="length of each window")
    add("--steps", type=positive, help="steps in each window, whatever they take, in the place of --seconds")
    add(
        "--window_warmup", type=positive,
        help="steps before each window; default: twice what the loader may have ready, at least 3",
    )  # fmt: skip
    add("--cold", action="store_true", help="also from an empty page cache, one pass over the cases a round")
    add("--warm", action="store_true", help="read all data files into the page cache before each round")
    add(
        "--step", metavar="package.module:factory",
        help="somebody else's step; --loader takes such a name too (see benchmark/profile/foreign.py)",
    )  # fmt: skip
    add(
        "--emulate", type=anchors.parse_emulated, metavar="NAME|SECONDS",
        help="consumers that take a published time for a step instead of a step: "
        f"{', '.join(anchors.ANCHORS)}, or the seconds of a step",
    )  # fmt: skip
    add("--accelerators", type=positive, default=1, help="how many of them, each a rank with its own loader")
    add("--out", type=Path, help="folder for record.json and report.html; default: LOG_DIR/profile")
    add("--process", type=int, help=argparse.SUPPRESS)  # set by a sweep, which draws the page itself


def loader_name(text: str) -> str:
    """A loader of ours, or ``package.module:factory``; an argparse type."""
    if text not in LOADERS and ":" not in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(LOADERS)}, and no package.module:factory either"
        )
    return text


def run(flags: argparse.Namespace) -> int:
    """Measure, print, and write the record and the page.

    Raises:
        DataError, RunError: it cannot be measured; the message says why.
        OSError: the record cannot be written.
    """
    with join_world(flags.local_rank) as world:
        subject = subject_of(flags, world)
        if flags.accelerators > 1 and world.size == 1:
            return launch(flags.argv, flags.accelerators)
        if flags.emulate and world.size != flags.accelerators:
            raise DataError(f"--accelerators {flags.accelerators} cannot be met by {world.size} ranks")
        return _profile(subject, flags, world)


def subject_of(flags: argparse.Namespace, world: World) -> Subject:
    """What the flags ask to measure; exits with one sentence where they do not go together.

    Raises:
        DataError: a published time for another patch.
    """
    foreign = flags.loader if ":" in flags.loader else None
    if foreign:
        flags.loader = "synthetic"  # which takes any other flag as it is, and is never built
    config: RunConfig = run_config(flags.parser, flags)
    if flags.emulate:
        if flags.step:
            flags.parser.error("--emulate and --step: one of them takes the batches")
        anchors.check_patch(config.loader.input_shape, flags.emulate)
    elif flags.accelerators > 1:
        flags.parser.error("--accelerators goes with --emulate; real ones are started by torchrun")
    return Subject(config, world, loader=foreign, step=flags.step, emulated=_emulated(flags))


def _profile(subject: Subject, flags: argparse.Namespace, world: World) -> int:
    course = course_of(subject, flags)
    folder = flags.out or subject.config.log_dir / "profile"
    # What is wrong with the data or the folder is said before anything is measured.
    identity = identity_of(subject, course)
    if world.is_main:
        _claim(folder)
    rounds = Rounds(subject, course, world.say)
    interrupted = False
    try:
        rounds.run()
    except KeyboardInterrupt:
        interrupted = True
    complete = {"loader", "step", "both"} <= {phase.arm for phase in rounds.phases}
    page = complete and flags.process is None
    ranks: list[dict[str, Any]] = []
    if world.size > 1 and not interrupted:
        ranks = gather(of_rank(rounds.phases, world.rank), world)
        stalls = gather([phase.stall_us for phase in rounds.phases], world)
        rounds.phases = [
            replace(phase, stall_us=longest(list(of_ranks)))
            for phase, of_ranks in zip(rounds.phases, zip(*stalls, strict=True), strict=True)
        ]
    if world.is_main:
        record = record_of(subject, course, rounds, ranks, identity, flags.argv)
        write_record(record, folder / "record.json")
        if complete:
            print(*lines(record.results), sep="\n", flush=True)
        print(f"record: {folder / 'record.json'}", flush=True)
        if page:
            write_page([(folder, record)], folder / "report.html")
            print(f"page: {folder / 'report.html'}", flush=True)
    if interrupted:
        done = len({phase.round for phase in rounds.phases})
        kept = "what was measured so far is written" if world.is_main else "ended"
        print(
            f"interrupted in round {done} of {course.rounds}: {kept}; the same command measures anew",
            file=sys.stderr,
        )
        return 128 + signal.SIGINT
    return 0


def course_of(subject: Subject, flags: argparse.Namespace) -> Course:
    """How this profile goes. Raises DataError where ``--cold`` or ``--warm`` has no files to work on."""
    config = subject.config.loader
    reads = subject.loader_name != "synthetic"
    files: tuple[Path, ...] = ()
    if reads and (subject.loader_name in LOADERS or any(config.data_dir.glob("case_*_x.npy"))):
        files = tuple(path for case in split_cases(config)[0] for path in (case.image, case.label))
    for flag in ("cold", "warm"):
        if getattr(flags, flag) and not files:
            raise DataError(f"--{flag} works on case_*.npy in --data_dir, which this loader does not read")
    queue = config.prefetch * max(1, config.num_workers) if reads else 0
    warmup = flags.window_warmup or max(3, -(-2 * queue // config.ga_steps))
    steps = flags.steps
    if steps is not None and steps < 2:
        raise DataError(f"--steps {steps} are too few for any spread: pass at least 10")
    return Course(
        rounds=flags.rounds,
        # At least two blocks, see ``statistics.rate``, of twice the queue each.
        lengths=Lengths(
            seconds=flags.seconds,
            warmup_steps=warmup,
            min_steps=max(MIN_STEPS, -(-4 * queue // config.ga_steps)),
            steps=steps,
        ),
        cold=flags.cold,
        warm=flags.warm,
        files=files,
        queue=queue,
        process=flags.process or 0,
    )


def _claim(folder: Path) -> None:
    """Make the folder of the results; an earlier record there, and its page, are renamed to carry their time.

    Raises:
        RunError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("record.json", "report.html"):
            set_aside(folder / name)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise RunError(f"{folder} cannot be written to ({error.strerror}): check --out") from error


def _emulated(flags: argparse.Namespace) -> anchors.Emulated | None:
    emulated: anchors.Emulated | None = flags.emulate
    return emulated.for_batch(flags.batch_size * flags.ga_steps) if emulated else None
