"""Records found in files and folders, as what the page shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.page.digits import numbered
from benchmark.page.node import Node
from benchmark.page.profiles import Failure, Gathered, Profile, phases_of
from benchmark.record import Record, read_record
from pipelines.errors import DataError
from preprocess.untrusted import printable

RECORD = "record.json"
POINTS = "point-*.json"


def find(paths: Sequence[Path]) -> list[tuple[Path, Record]]:
    """The records that ``paths`` name: files, or folders that hold ``record.json`` or ``point-*.json``.

    The points of a sweep belong to its record, and are not named a second time.

    Raises:
        DataError: Nothing there, or no record of this version.
        OSError: A file cannot be read.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist, expected a record or a folder of records")
        if path.is_file():
            found.append((path, read_record(path)))
            continue
        here = [(file, read_record(file)) for file in [path / RECORD] if file.is_file()]
        if not any(record.suite == "sweep" for _, record in here):
            here += [(file, read_record(file)) for file in sorted(path.glob(POINTS))]
        if not here:
            raise DataError(
                f"{path} holds neither {RECORD} nor {POINTS}, expected what `profile` or `sweep` wrote"
            )
        found += here
    return found


def gather(records: Sequence[tuple[Path | str, Record]]) -> Gathered:
    """Profiles, failed points and what has to be said about them.

    A sweep that is given by its path is shown with the steps of its points, from the records beside it.

    Raises:
        DataError: No record, a suite without a page, or a record that is not as it should be.
        OSError: A point's record cannot be read.
    """
    if not records:
        raise DataError("no record to show, expected at least one of `profile` or `sweep`")
    labels = _labels([where for where, _ in records])
    points = _Points()
    for label, (where, record) in zip(labels, records, strict=True):
        results = Node(record.results, f"{where}: results")
        if record.suite == "profile":
            points.add(label if len(records) > 1 else results.text("description"), results)
        elif record.suite == "sweep":
            points.add_sweep(where, results, label if len(records) > 1 else "")
        else:
            raise DataError(
                f"{where}: a record of {record.suite!r} has no page, expected one of `profile` or `sweep`"
            )
    labelled = tuple((label, record) for label, (_, record) in zip(labels, records, strict=True))
    return points.gathered(labelled)


class _Points:
    """Everything that was measured, or should have been, as it is found."""

    def __init__(self) -> None:
        self._profiles: list[Profile] = []
        self._failures: list[Failure] = []
        self._remarks: list[str] = []
        self._notices: list[str] = []

    def add(self, label: str, results: Node, sweep: str = "", flags: Mapping[str, str] | None = None) -> None:
        """A profile, as it was measured or until it was interrupted."""
        if results.optional("findings") is None:
            self.add_failure(
                label, "interrupted", "loader, training step and both together were not all measured"
            )
            return
        number = self._next()
        self._profiles.append(
            Profile(
                number=number,
                name=f"#{number} {label}",
                sweep=sweep,
                flags=flags or {},
                results=results,
                phases=phases_of(results),
            )
        )

    def add_failure(self, label: str, status: str, reason: str) -> None:
        """What was not measured."""
        number = self._next()
        self._failures.append(Failure(number=number, name=f"#{number} {label}", status=status, reason=reason))

    def add_sweep(self, where: Path | str, sweep: Node, name: str) -> None:
        """All points of a sweep; ``name`` tells it from others."""
        absent = []
        for point in sweep.children("points"):
            flags = point.texts("flags")
            label = ", ".join(f"{flag}={value}" for flag, value in flags.items())
            label = f"{name}: {label}" if name else label
            results = point.optional("results")
            if results is None:
                self.add_failure(label, point.text("status"), point.text("reason"))
                continue
            if beside := _point_beside(where, point.maybe_text("record")):
                results = beside
            else:
                absent.append(self._next())
            self.add(label, results, name, flags)
        if absent:
            self._notices.append(
                f"The records of {numbered(absent)} are not beside the sweep's: no figure has their steps."
            )
        self._remarks += sweep.maybe_list("workers")
        if not sweep.flag("complete"):
            self._notices.append("This sweep is not complete: what is missing is in the table of all points.")

    def gathered(self, records: tuple[tuple[str, Record], ...]) -> Gathered:
        """All of it; what is alone has no number in its name."""
        if len(self._profiles) + len(self._failures) == 1:
            self._profiles = [replace(p, name=p.name.removeprefix("#1 ")) for p in self._profiles]
        return Gathered(
            records=records,
            profiles=tuple(self._profiles),
            failures=tuple(self._failures),
            remarks=tuple(self._remarks),
            notices=tuple(self._notices),
        )

    def _next(self) -> int:
        return len(self._profiles) + len(self._failures) + 1


def _point_beside(sweep: Path | str, name: str) -> Node | None:
    """The results of the record ``name`` in the sweep's folder, and nowhere else; None if it is not there."""
    if isinstance(sweep, str) or not name:
        return None
    if Path(name).name != name:
        raise DataError(f"{sweep}: a point's record is {name!r}, expected the name of a file beside it")
    path = (sweep if sweep.is_dir() else sweep.parent) / name
    if not path.is_file():
        return None
    record = read_record(path)
    if record.suite != "profile":
        raise DataError(f"{path}: a record of {record.suite!r}, expected a point's, of `profile`")
    return Node(record.results, f"{path}: results")


def _labels(names: Sequence[Path | str]) -> list[str]:
    """Short and different: the folder of a ``record.json``, the name of another file, a text as it is."""
    short = []
    for name in names:
        if isinstance(name, str):
            short.append(name)
        elif name.is_dir() or name.name == RECORD:
            short.append((name if name.is_dir() else name.parent).resolve().name)
        else:
            short.append(name.stem)
    short = [printable(" ".join(name.split())) for name in short]
    counts, seen = Counter(short), Counter[str]()
    for index, label in enumerate(short):
        if counts[label] > 1:
            seen[label] += 1
            short[index] = f"{label} ({seen[label]})"
    return short
