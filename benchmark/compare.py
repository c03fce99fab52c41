"""``python -m benchmark compare``: is B the SAME as, FASTER or SLOWER than A? Of two records, or live."""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from benchmark.comparable import ARMS, measured, without_steps
from benchmark.comparison import compare
from benchmark.environment import ROOT
from benchmark.fingerprint import KEYS
from benchmark.quick import Live, Variant, measure
from benchmark.ratio import EXIT_STATUS, NOISE_FLOOR, QUICK_FLOOR, Verdict, judge, possible
from benchmark.record import Record, read_record, write_record
from pipelines.errors import DataError
from preprocess.flags import positive
from preprocess.untrusted import printable
from runtime.loader_arguments import number
from runtime.statistics import MIN_PAIRS, show

EPILOG = """The 95 % interval of the ratio of images per second, B over A, decides: SLOWER and FASTER where
all of it lies beyond the noise floor, SAME where all of it lies within, else AMBIGUOUS: measure longer.
Records of different things are INCOMPARABLE; what was changed on purpose is named with --ignore, and the
commit never counts. Exit status: 0 SAME or FASTER, or what --accept accepted; 3 SLOWER; 4 AMBIGUOUS; 5
INCOMPARABLE; 1 a record that cannot be used; 2 a wrong flag. Of several points the worst decides: SLOWER
before INCOMPARABLE before AMBIGUOUS."""


_seconds = number(float, 0.0, above=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "records", nargs="+", metavar="RECORD",
        help="A and B, before and after: a record.json, or a folder with one; with --quick the flags that "
        'only A and only B have, each as one word ("" for none)',
    )  # fmt: skip
    add(
        "--quick", metavar="FLAGS",
        help="run both now, in turns of --slice seconds, with these flags of profile (--data_dir ...)",
    )  # fmt: skip
    add("--window", type=_seconds, default=20.0, help="seconds of each side, for --quick (20)")
    add("--pairs", type=positive, default=10, help="fresh processes of each side, for --quick (10)")
    add("--slice", type=_seconds, default=1.0, help="seconds of a turn, for --quick (1)")
    add(
        "--checkout", type=Path, default=ROOT,
        help="folder of another version of this repository, which B runs, for --quick",
    )  # fmt: skip
    add("--json", type=Path, help="also write a record here, for --quick")
    add("--baseline", type=Path, metavar="FILE", help="A, kept in a repository; then only B is given")
    add("--accept", action="store_true", help="after the verdict, keep B as the new --baseline")
    add(
        "--arm", choices=ARMS, default="both",
        help="the rate that decides; all are printed (default: both, loader and step together)",
    )  # fmt: skip
    add(
        "--noise_floor", type=number(float, 0.0, 0.5), metavar="PART",
        help=f"the part of a rate that nobody cares about ({NOISE_FLOOR}; {QUICK_FLOOR} for --quick)",
    )  # fmt: skip
    add(
        "--ignore", type=_keys, default=(), metavar="KEY,KEY",
        help=f"what may differ: some of {', '.join(KEYS)}",
    )  # fmt: skip
    parser.set_defaults(wrong=parser.error)


def run(flags: argparse.Namespace) -> int:
    """Compare and print; the exit status says what was found, see `EPILOG`.

    Raises:
        DataError: a record that cannot be used, or no baseline.
        OSError: a file cannot be read or written.
    """
    if flags.quick is not None:
        return _live(flags)
    paths = _paths(flags)
    if flags.baseline and not flags.baseline.exists():
        if not flags.accept:
            raise DataError(f"{flags.baseline} is not there: --accept keeps the first one")
        _accept(paths[1], flags.baseline)
        return 0
    records = [read_record(path) for path in paths]
    a, b = (measured(record, path) for record, path in zip(records, paths, strict=True))
    floor = NOISE_FLOOR if flags.noise_floor is None else flags.noise_floor
    found = compare(a, b, flags.ignore, floor)
    for name, path, record in zip("AB", paths, records, strict=True):
        commit = str(record.environment.get("commit", "unknown"))[:9]
        print(printable(f"{name}: {path}, {record.date[:10]}, commit {commit}"))
    print(*map(printable, found.text()), sep="\n")
    verdict = found.verdict(flags.arm)
    print(f"{flags.arm}: {verdict}")
    if flags.accept:
        _accept(paths[1], flags.baseline)
        return 0
    return EXIT_STATUS[verdict]


def _paths(flags: argparse.Namespace) -> list[Path]:
    """Of A and B; exits where the flags do not say both."""
    if flags.accept and not flags.baseline:
        flags.wrong("--accept needs --baseline, the file to keep the record in")
    given = [*([flags.baseline] if flags.baseline else []), *map(Path, flags.records)]
    if len(given) != 2:
        wanted = "one record beside --baseline" if flags.baseline else "two records, or one and --baseline"
        flags.wrong(f"expected {wanted}, found {len(flags.records)}")
    return given


def _live(flags: argparse.Namespace) -> int:
    """Compare live; what was measured is written even where it was interrupted."""
    if len(flags.records) != 2 or flags.baseline or flags.accept:
        flags.wrong("--quick compares flags: give two words, and neither --baseline nor --accept")
    if flags.pairs < MIN_PAIRS:
        flags.wrong(f"--pairs {flags.pairs} have no interval: give at least {MIN_PAIRS}")
    try:
        words = [shlex.split(text) for text in (flags.quick, *flags.records)]
    except ValueError as error:
        flags.wrong(f"--quick and its words: {error}")
    live, status = Live(2), 0
    variants = Variant(words[0] + words[1], ROOT), Variant(words[0] + words[2], flags.checkout)
    try:
        measure(variants, flags.window, flags.slice, flags.pairs, live)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
        print(f"interrupted after {live.done} of {flags.pairs} pairs", file=sys.stderr)
    floor = QUICK_FLOOR if flags.noise_floor is None else flags.noise_floor
    results = {"first": live.rates[0], "second": live.rates[1]} | {
        "ratio": None,
        "verdict": None,
        "noise_floor": floor,
    }
    if live.done >= MIN_PAIRS:
        ratio = live.ratio(1)
        verdict = judge(ratio, floor)
        status = status or EXIT_STATUS[verdict]
        results |= {"ratio": ratio._asdict(), "verdict": verdict}
        others = f" ({' or '.join(possible(ratio, floor))})" if verdict is Verdict.AMBIGUOUS else ""
        pairs = f"{live.done} pairs of processes, {flags.window:g} s a side"
        print(f"B / A {show(ratio)} in {pairs}: {verdict}{others}")
    if flags.json:
        command = ["python", "-m", "benchmark", *flags.argv]
        write_record(Record(suite="quick-comparison", command=command, results=results), flags.json)
    return status


def _accept(path: Path, baseline: Path) -> None:
    """Keep the record at ``path`` as the baseline, if it has something to compare with."""
    record = read_record(path)
    measured(record, path)
    write_record(without_steps(record), baseline)
    print(f"baseline: {baseline} is now {path}")


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(text.split(","))
    if unknown := [key for key in keys if key not in KEYS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(KEYS)}")
    return keys
