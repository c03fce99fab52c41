"""What came out, as one table of plain text."""

import statistics
from collections.abc import Mapping, Sequence

from benchmark.peers.comparison import Outcome
from benchmark.peers.contenders import CONTENDERS, REFERENCE

_HEAD: tuple[str, ...] = (
    "loader",
    "images/s",
    "[min, max]",
    "x reference",
    "[min, max]",
    "ours",
    "cold MB/image",
    "peak MiB",
    "kept",
)


def ratios(mine: Sequence[float], theirs: Sequence[float]) -> tuple[float, list[float]]:
    """(ratio of the medians, ratios of the rounds)."""
    rounds = [a / b for a, b in zip(mine, theirs, strict=True)]
    return statistics.median(mine) / statistics.median(theirs), rounds


def best_of_ours(outcomes: Mapping[str, Outcome]) -> str | None:
    """Our fastest loader by its median, if any was measured."""
    ours = [name for name, o in outcomes.items() if CONTENDERS[name].ours and not o.problem]
    return max(ours, key=lambda name: statistics.median(outcomes[name].images_per_s), default=None)


def table(outcomes: Mapping[str, Outcome], bounds: Mapping[str, float]) -> str:
    """One line for each contender, and what the columns mean.

    Args:
        outcomes: by name.
        bounds: of ``window_pages.bounds``, bytes.
    """
    best = best_of_ours(outcomes)
    rows = [_HEAD]
    ends: dict[int, str] = {}
    for name, outcome in outcomes.items():
        if outcome.problem:
            ends[len(rows)] = outcome.problem
            rows.append((name, *[""] * (len(_HEAD) - 1)))
        else:
            rows.append(_row(name, outcomes, best))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = []
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0])]
        cells += (
            [ends[number]]
            if number in ends
            else [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        )
        lines.append("  ".join(cells).rstrip())
    notes = [f"{name}: {note}" for name, outcome in outcomes.items() for note in outcome.notes]
    notes += [
        f"{name}: only {outcome.cached_part:.0%} of its files stayed in the page cache before a round"
        for name, outcome in outcomes.items()
        if outcome.cached_part < 0.99
    ]
    return "\n".join([*lines, "", *_legend(outcomes, bounds, best), *notes])


def _row(name: str, outcomes: Mapping[str, Outcome], best: str | None) -> tuple[str, ...]:
    outcome = outcomes[name]
    rates = outcome.images_per_s
    to_reference = ("-", "-")
    reference = outcomes.get(REFERENCE)
    if reference and not reference.problem:
        ratio, rounds = ratios(rates, reference.images_per_s)
        to_reference = (f"{ratio:.2f}", _spread(rounds, 2))
    ours = "-"
    if best and not CONTENDERS[name].ours:
        ours = f"{ratios(outcomes[best].images_per_s, rates)[0]:.2f}x"
    cold = " / ".join(f"{read.bytes_per_image / 1e6:.1f}" for read in outcome.cold.values()) or "-"
    return (
        name,
        f"{statistics.median(rates):.1f}",
        _spread(rates, 1),
        *to_reference,
        ours,
        cold + ("*" if CONTENDERS[name].keeps_volumes else ""),
        f"{outcome.peak_pss / 2**20:.0f}",
        f"{outcome.peak_kept / 2**20:.0f}",
    )


def _spread(values: Sequence[float], digits: int) -> str:
    return f"[{min(values):.{digits}f}, {max(values):.{digits}f}]"


def _legend(outcomes: Mapping[str, Outcome], bounds: Mapping[str, float], best: str | None) -> list[str]:
    shown = [name for name, outcome in outcomes.items() if not outcome.problem]
    lines = ["images/s and ratios: medians of the rounds, or of them, and the extremes of single rounds."]
    if best:
        lines.append(f"ours: {best}, the fastest of ours, is so many times as fast.")
    lines.append(
        "cold MB/image: read from the disk with an empty page cache. A patch is "
        f"{bounds['patch'] / 1e6:.1f} MB, the pages that hold it {bounds['pages'] / 1e6:.1f} MB, "
        f"a whole case {bounds['case'] / 1e6:.1f} MB."
    )
    if any(len(outcomes[name].cold) > 1 for name in shown):
        lines.append("  a / b: without / with the one look at each label that foreground-biased crops need.")
    if any(CONTENDERS[name].keeps_volumes for name in shown):
        lines.append("  *: in the first pass; afterwards volumes are in memory and nothing is read.")
    lines.append("peak MiB: proportional set size of all processes; kept: without pages of files.")
    return lines
