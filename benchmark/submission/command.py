"""``python -m benchmark submission``: a package of forty runs for MLPerf, and would it be accepted?"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmark.mllog.folders import scaling_factor
from benchmark.submission import official, progress_text, template
from benchmark.submission.code_files import code_files, inspect_code
from benchmark.submission.demo import demo as run_demo
from benchmark.submission.gather import inspect_logs, result_files
from benchmark.submission.inspect_package import inspect_package
from benchmark.submission.layout import Layout
from benchmark.submission.objections import EXTRA, Objection
from benchmark.submission.package import check_place, write_package
from benchmark.submission.progress import read_progress
from benchmark.submission.system import fits_logs, inspect_system, read_system
from benchmark.submission.verdicts import show_objections, show_verdicts, write_verdicts
from pipelines.errors import DataError
from preprocess.flags import positive
from preprocess.untrusted import printable
from runtime.mlperf_arguments import RULESETS, MlperfConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands and their flags."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="subcommand")

    def command(name: str, purpose: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)

    build = command("build", "make a package and ask the official checkers about it")
    build.epilog = (
        "Refused without asking them, beside all that they refuse: " + "; ".join(EXTRA.values()) + "."
    )
    build.add_argument("--org", required=True, help="who submits")
    build.add_argument("--system", required=True, type=Path, help="system description, SYSTEM.json")
    build.add_argument("--results", required=True, type=Path, help="folder of the runs' logs, result_<i>.txt")
    build.add_argument("--out", required=True, type=Path, help="package to make; outputs go to OUT.checks")
    build.add_argument(
        "--rehearsal", action="store_true",
        help="package test runs (closed-test), and list what would be refused; the package is marked",
    )  # fmt: skip
    check = command("check", "inspect a package and ask the official checkers about it")
    check.add_argument("package", type=Path, help="its folder; outputs go to PACKAGE.checks")
    status = command("status", "how far a series of runs has come, and its score so far")
    status.add_argument("results", type=Path, help="folder that the launchers write results to")
    status.add_argument("--runs", type=positive, default=40, help="results that the series is to have")
    system = command("system", "write a system description with what this machine tells of itself")
    system.add_argument("--out", required=True, type=Path, help="file to write, SYSTEM.json")
    demo = command("demo", "the whole way in miniature, on phantom data: runs, package, official checkers")
    demo.add_argument("--work", required=True, type=Path, help="new or empty folder for all that it makes")
    demo.add_argument("--small", action="store_true", help="volumes of 32^3 and a network to match: a minute")
    for parser_with_rules in (build, check, status):
        parser_with_rules.add_argument(
            "--ruleset", default=MlperfConfig.ruleset, choices=RULESETS, help="round to submit to"
        )


def run(flags: argparse.Namespace) -> int:
    """Run a subcommand: 0 where nothing is to be mended.

    Raises:
        DataError, RunError, OSError: a file cannot be used, or mlperf_logging is missing.
    """
    actions = {"build": _build, "check": _check, "status": _status, "system": _system, "demo": _demo}
    return actions[flags.subcommand](flags)


def _build(flags: argparse.Namespace) -> int:
    check_place(flags.out)
    system = read_system(flags.system)
    files, objections = result_files(flags.results)
    runs, found = inspect_logs(flags.results, files, flags.ruleset, rehearsal=flags.rehearsal)
    code = code_files()
    objections += [*found, *inspect_system(flags.system, system, flags.org), *inspect_code(code)]
    if runs:
        objections += fits_logs(flags.system, system, runs[0].log, flags.results)
    show_objections(objections)
    rehearsable = bool(runs) and all(objection.rule != "rehearsal" for objection in objections)
    if objections and not (flags.rehearsal and rehearsable):
        print(f"no package was made, and no official checker was asked: {len(objections)} objections")
        return 1
    layout = Layout(flags.out, flags.system.stem)
    try:
        write_package(layout, system, files, runs, code, flags.ruleset, rehearsal=flags.rehearsal)
    except OSError as error:
        raise DataError(
            f"{flags.out} cannot be written ({error.filename}: {error.strerror}), expected room for a "
            "package; choose another --out, or mend that"
        ) from error
    print(f"{flags.out}: {len(files)} logs, {len(code.paths)} files of code ({code.rule})")
    for note in code.notes:
        print(f"note: {note}")
    passed = _ask(flags.out, [layout], objections, flags)
    return 0 if passed or flags.rehearsal else 1


def _check(flags: argparse.Namespace) -> int:
    _stay_inside(flags.package)
    layouts, objections = inspect_package(flags.package, flags.ruleset)
    show_objections(objections)
    passed = _ask(flags.package, layouts, objections, flags)
    return 0 if passed and not objections else 1


def _stay_inside(root: Path) -> None:
    """Refuse a package in which package_checker, which writes scaling.json, would write elsewhere.

    Raises:
        DataError: a folder or scaling.json in it is a link.
    """
    for path in root.rglob("*"):
        if path.is_symlink() and (path.is_dir() or path.name == "scaling.json"):
            raise DataError(f"{path} is a link, through which package_checker would write: remove it first")


def _ask(
    root: Path, layouts: Sequence[Layout], objections: Sequence[Objection], flags: argparse.Namespace
) -> bool:
    """Ask the official checkers, print and keep what they say; whether all of them pass."""
    verdicts = official.judge(root, layouts, flags.ruleset)
    show_verdicts(verdicts)
    for layout in layouts:
        if factor := scaling_factor(layout.results):
            print(
                f"{layout.results / 'scaling.json'}: package_checker multiplies the time by {factor:.4f}, "
                "because the runs converge faster than the reference; the file belongs there"
            )
    outputs = root.with_name(f"{root.name}.checks")
    rehearsal = getattr(flags, "rehearsal", False)
    write_verdicts(outputs, verdicts, objections, flags.ruleset, rehearsal=rehearsal)
    print(f"{outputs}: all that they printed, and verdicts.json")
    return all(verdict.passed for verdict in verdicts)


def _status(flags: argparse.Namespace) -> int:
    progress = read_progress(flags.results)
    for sentence in progress_text.sentences(progress, flags.runs, flags.ruleset):
        print(printable(sentence))
    return 0


def _demo(flags: argparse.Namespace) -> int:
    return run_demo(flags.work, small=flags.small)


def _system(flags: argparse.Namespace) -> int:
    missing = template.write_template(flags.out)
    print(f"{flags.out}: fill in {', '.join(missing)} (N/A where there is none), and correct the others")
    return 0
