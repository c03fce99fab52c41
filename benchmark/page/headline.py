"""The top of the page: the verdict, what to do about it, and the rate."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmark.page.digits import count, interval, number, numbered, percent_interval, unit
from benchmark.page.markup import Markup, element, together
from benchmark.page.node import Node
from benchmark.page.profiles import ARMS, Gathered, Profile

_FLAG = re.compile(r"(--\w+)")


def headline(gathered: Gathered) -> Markup:
    """Of the fastest, where there are several; what limits its meaning comes right below."""
    notices = [*gathered.notices, *_limits(gathered)]
    if not gathered.profiles:
        return element(
            "header",
            element("h1", "Nothing here was measured to its end."),
            element("p", "The reasons are in the table of all points, below.", class_="advice"),
            _notices(notices),
        )
    best = gathered.fastest[0]
    verdict = best.findings.child("verdict")
    return element(
        "header",
        _which(gathered),
        element("h1", _sentence(verdict.text("sentence"))),
        element("p", element("b", "What to do: "), _sentence(verdict.text("advice")), class_="advice"),
        _rate(best),
        *[element("p", _sentence(remark), class_="context") for remark in gathered.remarks],
        _notices(notices),
    )


def _which(gathered: Gathered) -> Markup:
    if gathered.alone:
        return Markup("")
    best, *others = gathered.fastest
    said = f"Of {best.name}" + (
        f", the fastest of {len(gathered.profiles)} that were measured" if others else ""
    )
    low = best.rate("both").low
    close = [p.number for p in others if low is not None and (p.rate("both").high or 0.0) >= low]
    if close:
        said += f"; the interval of {numbered(close)} reaches its own"
    if gathered.failures:
        said += f"; {len(gathered.failures)} not measured"
    verdicts = Counter(p.findings.child("verdict").text("name") for p in gathered.profiles)
    told = ", ".join(f"{times} {name}" for name, times in verdicts.most_common())
    return element("p", f"{said}. Verdicts: {told}.", class_="kicker")


def _rate(profile: Profile) -> Markup:
    rate, alone = profile.rate("both"), profile.rate("step")
    node = profile.rates.get("both")
    if node is None or rate.value is None:
        return element("p", "No rate: loader and training step were not run together.", class_="rate")
    value, _, bounds = interval(rate).partition(" ")
    bounds = f"{bounds} (95\u00a0%)" if bounds else "no interval is known"
    found = [f"data stall {percent_interval(profile.findings.estimate('data_stall'))}"]
    if alone.value:
        part = f"{100 * rate.value / alone.value:.0f} %"
        found.insert(0, f"{part} of the training step alone ({number(alone.value)} images/s)")
    windows = node.number("windows")
    in_windows = "one window" if windows == 1 else f"{count(windows)} windows"
    length = unit(node.number("window_s"), "s")
    found.append(f"{count(node.number('steps'))} steps in {in_windows}, {length} in all")
    return together(
        [
            element("p", element("strong", value), " images/s ", element("span", bounds), class_="rate"),
            element("p", "; ".join(found) + ".", class_="context"),
        ]
    )


def _limits(gathered: Gathered) -> list[str]:
    """What a reader has to know before believing a number, and of which points."""
    whose: dict[str, list[int]] = {}
    for profile in gathered.profiles:
        for text in _limits_of(profile):
            whose.setdefault(text, []).append(profile.number)
    if gathered.alone:
        return list(whose)
    return [
        f"{'All' if len(members) == len(gathered.profiles) else numbered(members)}: {text}"
        for text, members in whose.items()
    ]


def _limits_of(profile: Profile) -> Iterator[str]:
    if emulated := profile.results.optional("emulated"):
        yield _emulation(emulated)
    grade = profile.findings.child("noise").text("grade")
    if grade != "quiet":
        yield f"Single steps of loader and training step together are {grade} (see the metrics)."
    unsteady = [ARMS.get(arm, arm) for arm, rate in profile.rates.items() if not rate.flag("steady")]
    if unsteady:
        yield f"Not steady: {', '.join(unsteady)} (the table of rates says why)."


def _emulation(emulated: Node) -> str:
    seconds, many = emulated.number("seconds_per_step"), count(emulated.number("accelerators"))
    whose = f"{many} x {emulated.text('name')}"
    source = ", ".join(filter(None, (whose, emulated.text("source"), emulated.maybe_text("date"))))
    assumed = " That time is an assumption, no published result." if emulated.flag("assumed") else ""
    took = unit(None if seconds is None else 1e3 * seconds, "ms")
    said = f"The training step was emulated: nothing was computed, each step only took {took} ({source})."
    return said + assumed


def _notices(texts: Sequence[str]) -> Markup:
    return element("ul", *[element("li", text) for text in texts], class_="notices") if texts else Markup("")


def _sentence(text: str) -> Markup:
    """With a capital and a full stop; flags are not broken at their hyphens."""
    whole = text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
    return together(
        element("span", part, class_="flag") if _FLAG.fullmatch(part) else part for part in _FLAG.split(whole)
    )
