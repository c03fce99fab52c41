"""The tree of a package, written under a temporary name and renamed when it is whole."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.submission.code_files import CodeFiles
from benchmark.submission.layout import MARK, SCRIPTS, Layout
from benchmark.submission.one_log import RunFile
from benchmark.submission.recipe import texts
from pipelines.errors import DataError
from runtime.mlperf_arguments import TEST_PLATFORM

NOT_FOR_SUBMISSION = """This package is a rehearsal: it was made from test runs, to try the tools that make
and check a submission. It says nothing about how fast a system trains, and is not to be submitted.
"""


def pattern_letters(root: Path) -> str:
    """Letters of the path of a package that the official checkers read as a file pattern; none is well."""
    return " and ".join(sorted(set("[]*?{}") & set(str(root.absolute()))))


def check_place(root: Path) -> None:
    """Refuse a place that a package cannot go to.

    Raises:
        DataError: It is taken, or its name is one that the official checkers cannot handle.
    """
    if root.exists() or root.is_symlink():
        raise DataError(f"{root} exists, expected a new folder; a package is never written over")
    if " " in root.name or root.name.startswith("."):
        raise DataError(
            f"{root.name!r} is no name for a package, expected no blank and no leading dot; choose another"
        )
    if used := pattern_letters(root):
        raise DataError(
            f"{root.absolute()} has {used} in it, which the official checkers take for a file pattern, "
            "expected none; choose another folder"
        )


def write_package(
    layout: Layout,
    system: Mapping[str, Any],
    files: Sequence[Path],
    runs: Sequence[RunFile],
    code: CodeFiles,
    ruleset: str,
    *,
    rehearsal: bool,
) -> None:
    """Write the whole package.

    Args:
        layout: Where it goes; nothing is there yet.
        system: The system description.
        files: The logs; the i-th becomes result_i.txt.
        runs: Those of them that are runs, one at least.
        code: The implementation.
        ruleset: One of ``RULESETS``.
        rehearsal: Mark the package, and submitter and system in it.

    Raises:
        OSError: Something cannot be read or written.
    """
    layout.root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{layout.root.name}.", dir=layout.root.parent) as folder:
        new = Layout(Path(folder) / "package", layout.system)
        for part in (new.description.parent, new.results, new.scripts):
            part.mkdir(parents=True)
        told = dict(system)
        if rehearsal:
            (new.root / MARK).write_text(NOT_FOR_SUBMISSION, encoding="utf-8")
            told |= {key: f"{TEST_PLATFORM}{told.get(key)}" for key in ("submitter", "system_name")}
        new.description.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in code.paths:
            target = new.implementation / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(code.root / path, target)
        for name, text in texts(layout, told, runs, ruleset, code.rule).items():
            (new.scripts / name).write_text(text, encoding="utf-8")
        for name in SCRIPTS:
            (new.scripts / name).chmod(0o755)
        for i, file in enumerate(files):
            shutil.copyfile(file, new.results / f"result_{i}.txt")
        new.root.rename(layout.root)
