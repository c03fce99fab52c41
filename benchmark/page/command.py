"""``python -m benchmark report``: one page of HTML that shows records of profile and sweep."""

import argparse
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from benchmark.record import Record
from pipelines.errors import DataError

NAME = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="a record, or a folder that holds record.json or point-*.json; several are shown together",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"the page ({NAME} beside the first record)")
    parser.add_argument("--open", action="store_true", help="show it in a browser")


def run(flags: argparse.Namespace) -> int:
    """Write the page and print its path.

    Raises:
        DataError: a path without a record, a record that has no page, or no browser for ``--open``.
        OSError: a record cannot be read, or the page not be written.
    """
    from benchmark.page.gather import find

    records = find(flags.paths)
    path: Path = flags.out or records[0][0].parent / NAME
    if path.is_dir():
        raise DataError(f"--out {path} is a folder, expected the name of a file")
    write_page(records, path)
    print(path)
    if flags.open and not webbrowser.open(path.resolve().as_uri()):
        raise DataError(f"--open: found no browser, open {path} yourself")
    return 0


def write_page(records: Sequence[tuple[Path | str, Record]], path: Path) -> None:
    """Write the page of ``records``, whole or not at all.

    Args:
        records: Each with its file or its folder, where a sweep's points are looked for; or with a name.
        path: Of the page; its folder is made.

    Raises:
        DataError: no record, one of a suite without a page, or one that is not as it should be; or there is
            no matplotlib to draw the figures.
        OSError: a point's record cannot be read, or the page not be written.
    """
    try:
        # Other commands need it at their end or never, and it takes a second to import.
        from benchmark.page import document
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "matplotlib":
            raise
        raise DataError(
            f"{path} was not written: its figures need matplotlib, install it (see requirements.txt) and run "
            "`python -m benchmark report` on the record"
        ) from error
    document.write(records, path)
