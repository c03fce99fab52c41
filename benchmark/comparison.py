"""Two records' rates side by side, and the verdict on each."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmark.comparable import ARMS, Measured, Rate
from benchmark.fingerprint import differences
from benchmark.ratio import Verdict, judge, possible, worst
from pipelines.errors import DataError
from runtime.statistics import Interval, quotient, show


class Line(NamedTuple):
    """One rate in both records."""

    point: str
    """The flags of a sweep's point; empty for other records."""
    arm: str
    a: Rate
    b: Rate
    ratio: Interval | None
    """B over A."""
    verdict: Verdict

    @property
    def name(self) -> str:
        """Of the point and the arm."""
        return f"{self.point} {self.arm}".strip()


@dataclass
class Comparison:
    """All rates of two records that compare, and why others do not."""

    floor: float
    lines: list[Line] = field(default_factory=list)
    incomparable: dict[str, list[str]] = field(default_factory=dict)
    """Names of points of A, by the reason."""
    notes: list[str] = field(default_factory=list)
    """On what A cannot be the measure for."""

    def verdict(self, arm: str) -> Verdict:
        """The worst on ``arm``.

        Raises:
            DataError: nothing was compared, or ``arm`` has no interval anywhere.
        """
        lines = [line for line in self.lines if line.arm == arm]
        if self.lines and not lines:
            arms = " or ".join(arm for arm in ARMS if any(line.arm == arm for line in self.lines))
            raise DataError(f"no rate of {arm} is in both records: choose --arm {arms}")
        if lines and not any(line.ratio for line in lines):
            found = next(rate for rate in (lines[0].a, lines[0].b) if rate.interval is None)
            raise DataError(f"no verdict on {arm} without its interval: {found.remark}")
        if not lines and not self.incomparable:
            raise DataError("A has no point that was measured: nothing to compare with")
        return worst(
            [*(line.verdict for line in lines), *([Verdict.INCOMPARABLE] if self.incomparable else [])]
        )

    def text(self) -> list[str]:
        """Lines to read: a table of the rates, and remarks."""
        return [*self._table(), *self._unsteady(), *self._incomparable(), *self.notes]

    def _table(self) -> Iterator[str]:
        rows = [["", "A", "B", "B / A", ""], *map(self._row, self.lines)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows if self.lines else ():
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    def _row(self, line: Line) -> list[str]:
        rates = [
            show(rate.interval, "img/s") if rate.interval else "no interval" for rate in (line.a, line.b)
        ]
        verdict = str(line.verdict)
        if line.ratio and line.verdict is Verdict.AMBIGUOUS:
            verdict += f" ({' or '.join(possible(line.ratio, self.floor))})"
        return [line.name, *rates, show(line.ratio) if line.ratio else "", verdict]

    def _unsteady(self) -> Iterator[str]:
        for line in self.lines:
            for name, rate in (("A", line.a), ("B", line.b)):
                if rate.remark:
                    what = "UNSTEADY" if rate.interval else "no interval"
                    yield f"{line.name} in {name}: {what}: {rate.remark}"

    def _incomparable(self) -> Iterator[str]:
        for reason, names in self.incomparable.items():
            points = f" {', '.join(names)}" if any(names) else ""
            yield f"INCOMPARABLE{points}: {reason}"


def compare(
    a: Mapping[str, Measured], b: Mapping[str, Measured], ignored: Collection[str], floor: float
) -> Comparison:
    """Compare what two records hold, point by point.

    Points are those of A. One that B lacks or failed at is incomparable; one that A has no rate of is only
    noted, and so is one that only B has.

    Args:
        a: See `comparable.measured`.
        b: The same of the other record.
        ignored: Keys of the fingerprints that may differ.
        floor: Of the noise, see `ratio.judge`.
    """
    found = Comparison(floor)
    for point, before in a.items():
        after = b.get(point)
        if before.reason:
            found.notes.append(f"{point}: {before.reason} in A: not compared")
        elif reason := _why_not(before, after, ignored):
            found.incomparable.setdefault(reason, []).append(point)
        elif after:
            found.lines += _lines(point, before, after, floor)
    found.notes += [f"{point}: only in B: not compared" for point in b if point not in a]
    return found


def _why_not(a: Measured, b: Measured | None, ignored: Collection[str]) -> str:
    if b is None:
        return "not in B"
    return f"{b.reason} in B" if b.reason else "; ".join(differences(a.fingerprint, b.fingerprint, ignored))


def _lines(point: str, a: Measured, b: Measured, floor: float) -> Iterator[Line]:
    for arm in ARMS:
        if arm in a.rates and arm in b.rates:
            yield _line(point, arm, a.rates[arm], b.rates[arm], floor)


def _line(point: str, arm: str, a: Rate, b: Rate, floor: float) -> Line:
    if a.interval is None or b.interval is None:
        return Line(point, arm, a, b, None, Verdict.AMBIGUOUS)
    ratio = quotient(b.interval, a.interval)
    return Line(point, arm, a, b, ratio, judge(ratio, floor))
