"""Which files of this repository are the implementation that a package ships."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.environment import ROOT
from benchmark.submission.objections import Objection

LARGEST = 50 << 20
"""Bytes that repo_checker lets a file have."""

LEFT_OUT = ("results", "__pycache__")
"""Folders of no use to whoever runs the code; hidden files and folders are left out as well, because
repo_checker refuses them."""

SOURCES = ("*.py", "*.sh", "*.sub")
"""Files that would be missed."""


@dataclass(frozen=True)
class CodeFiles:
    """Paths relative to ``root``, and how they were chosen."""

    root: Path
    paths: tuple[Path, ...]
    rule: str
    notes: tuple[str, ...] = ()
    """What a submitter should know of them."""


def code_files(root: Path = ROOT) -> CodeFiles:
    """The files that git tracks; where git does not know the folder, all files.

    Either way without hidden ones and the folders ``LEFT_OUT``.
    """
    tracked = _git(root, "ls-files")
    if tracked is None:
        paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
        rule = "all files, there is no git checkout"
    else:
        # A tracked file that was removed is none of the code that ran.
        paths = [path for path in tracked if (root / path).is_file()]
        rule = "the files that git tracks, as they are now"
    kept = tuple(sorted(path for path in paths if not _left_out(path)))
    rule += f", without hidden ones and {' and '.join(LEFT_OUT)}"
    return CodeFiles(root, kept, rule, () if tracked is None else tuple(_notes(root)))


def _notes(root: Path) -> Iterator[str]:
    if changed := _git(root, "diff", "--name-only", "HEAD"):
        yield f"{len(changed)} files of the code differ from the commit, first {changed[0]}"
    if strangers := _git(root, "ls-files", "--others", "--exclude-standard", "--", *SOURCES):
        yield (
            f"{len(strangers)} files of code are not in the package because git does not track them, first "
            f"{strangers[0]}"
        )


def inspect_code(code: CodeFiles) -> list[Objection]:
    """Files that repo_checker would refuse."""
    objections = []
    for path in code.paths:
        if " " in str(path):
            found = "has a blank in its name, expected none"
            objections.append(Objection("file names", str(path), found, "rename it"))
        if (size := (code.root / path).stat().st_size) > LARGEST:
            found = f"has {size / (1 << 20):.0f} MiB, expected {LARGEST >> 20} at most"
            objections.append(Objection("file sizes", str(path), found, "keep it elsewhere"))
    return objections


def _left_out(path: Path) -> bool:
    return any(part in LEFT_OUT or part.startswith(".") for part in path.parts)


def _git(root: Path, *arguments: str) -> list[Path] | None:
    """The paths that a command of git lists; None where it cannot."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(root), arguments[0], "-z", *arguments[1:]],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return [Path(name) for name in listed.split("\0") if name]
