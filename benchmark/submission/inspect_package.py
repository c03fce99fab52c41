"""A package as it lies there: what would be refused, by us or by the official checkers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.mllog.score import RUNS
from benchmark.submission.code_files import LARGEST
from benchmark.submission.gather import inspect_logs, number, result_files
from benchmark.submission.layout import BENCHMARK, MARK, SCRIPTS, Layout
from benchmark.submission.objections import Objection
from benchmark.submission.package import pattern_letters
from benchmark.submission.system import fits_logs, inspect_system, read_system
from pipelines.errors import DataError

BESIDE_LOGS = ("scaling.json",)
"""What may lie beside logs: package_checker writes it."""

PARAMETERS = "package_checker_params"
"""A file of this name switches checks off."""


def systems_of(root: Path) -> list[Layout]:
    """The systems that have results in a package.

    Raises:
        DataError: It is no package.
        OSError: It cannot be read.
    """
    results = root / "results"
    if not results.is_dir() or not (root / "systems").is_dir():
        raise DataError(f"{root} has no folders results and systems, expected a package as build makes it")
    layouts = [Layout(root, folder.name) for folder in sorted(results.iterdir()) if folder.is_dir()]
    if not layouts:
        raise DataError(f"{results} is empty, expected a folder for each system")
    return layouts


def inspect_package(root: Path, ruleset: str) -> tuple[list[Layout], list[Objection]]:
    """The systems of a package, and all objections to it.

    Raises:
        DataError: It is no package, or something in it cannot be read.
        OSError: Likewise.
    """
    layouts = systems_of(root)
    objections = [*_tree(root, layouts), *_descriptions(root, layouts)]
    for layout in layouts:
        objections += _of_system(layout, ruleset)
    return layouts, objections


def _of_system(layout: Layout, ruleset: str) -> Iterator[Objection]:
    yield from _code(layout)
    try:
        files, named = result_files(layout.results)
    except DataError as error:
        yield Objection("count", str(layout.results), str(error), "build the package anew")
        return
    yield from named
    if not named and [number(file) for file in files] != list(range(len(files))):
        first = ", ".join(str(number(file)) for file in files[:3])
        found = f"numbers its logs {first} ..., expected 0 to {RUNS - 1}"
        yield Objection("numbering", str(layout.results), found, "build the package anew")
    runs, objections = inspect_logs(layout.results, files, ruleset)
    yield from objections
    if runs and layout.description.is_file():
        yield from fits_logs(layout.description, read_system(layout.description), runs[0].log, layout.results)


def _descriptions(root: Path, layouts: Sequence[Layout]) -> Iterator[Objection]:
    """All of them: a broken one that no result needs fails the package, too."""
    for layout in layouts:
        if not layout.description.is_file():
            found = f"has no {layout.description.relative_to(root)}, expected one for results/{layout.system}"
            yield Objection("system fields", str(root), found, "name both alike")
    for path in sorted((root / "systems").glob("*.json")):
        yield from inspect_system(path, read_system(path))


def _code(layout: Layout) -> Iterator[Objection]:
    names = [*(layout.scripts / name for name in (*SCRIPTS, "README.md")), layout.metadata]
    missing = [path for path in names if not path.is_file()]
    if not layout.implementation.is_dir() or not any(layout.implementation.iterdir()):
        missing.append(layout.implementation)
    for path in missing:
        found = f"has no {path.relative_to(layout.root)}, expected the code and scripts of the runs"
        yield Objection("code", str(layout.root), found, "build the package anew")


def _tree(root: Path, layouts: Sequence[Layout]) -> Iterator[Objection]:
    if (root / MARK).exists():
        yield Objection(
            "rehearsal", str(root), f"is marked {MARK}, expected a package of real runs", "build one"
        )
    for layout in layouts:
        folder = layout.results.parent
        for path in sorted(folder.iterdir()):
            if path.is_dir() and path.name != BENCHMARK:
                yield Objection(
                    "other files", str(path), f"is no result of {BENCHMARK}, expected none", "move it"
                )
        for path in sorted(layout.results.iterdir()) if layout.results.is_dir() else []:
            if number(path) < 0 and path.name not in (*BESIDE_LOGS, PARAMETERS):
                yield Objection(
                    "other files", str(path), "is no log, expected logs alone", "move it elsewhere"
                )
    if used := pattern_letters(root):
        found = f"has {used} in its path, which the official checkers take for a file pattern, expected none"
        yield Objection("file names", str(root), found, "move it")
    for path in (root.absolute(), *sorted(root.rglob("*"))):
        yield from _entry(path)


def _entry(path: Path) -> Iterator[Objection]:
    if path.name == PARAMETERS:
        yield Objection(
            "bypass", str(path), "switches official checks off, expected no such file", "remove it"
        )
    if path.name.startswith(".") or " " in path.name:
        found = "has a blank in its name or begins with a dot, expected neither"
        yield Objection("file names", str(path), found, "rename it")
    if path.is_symlink():
        # repo_checker looks for what a link names in the folder that it runs in.
        yield Objection("file sizes", str(path), "is a link, expected a file", "put the file in its place")
    elif path.is_file() and path.stat().st_size > LARGEST:
        found = f"has {path.stat().st_size >> 20} MiB, expected {LARGEST >> 20} at most"
        yield Objection("file sizes", str(path), found, "keep it elsewhere")
