"""Every number that a profile found, with what it means."""

from collections.abc import Sequence

from benchmark.page.digits import UNKNOWN, count, interval, number, percent, percent_interval, size, unit
from benchmark.page.markup import Markup, element, table, together
from benchmark.page.node import Estimate, Node
from benchmark.page.profiles import ARMS, Profile

_Row = tuple[str, str, str]
"""Name, formula or meaning, value."""


def metrics_table(profiles: Sequence[Profile]) -> Markup:
    """A row for each metric, a column for each profile."""
    columns = [_rows(profile) for profile in profiles]
    head = ["metric", *[profile.name for profile in profiles]]
    rows = [
        [together([name, element("small", meaning)]), *[column[index][2] for column in columns]]
        for index, (name, meaning, _) in enumerate(columns[0])
    ]
    return table(
        "All metrics", head, rows, "In brackets: 95 % intervals. R is a rate in images/s, T a mean time."
    )


def _rows(profile: Profile) -> list[_Row]:
    return [
        *_stalls(profile.findings),
        *_overlap(profile.findings),
        *_waiting(profile.findings),
        *_storage(profile.findings),
        *_elsewhere(profile),
    ]


def _stalls(found: Node) -> list[_Row]:
    cold = found.maybe("cold")
    verdict = cold.child("verdict").text("sentence") if cold else "not measured"
    return [
        ("data stall, by rates", "1 \u2212 R(together) / R(step alone)", _part(found.estimate("data_stall"))),
        (
            "data stall, by waiting",
            "share of the step in which the device had nothing to do because data was missing",
            _part(Estimate.of(found.maybe("stall_share"))),
        ),
        (
            "prep stall",
            "1 \u2212 min(1, R(loader alone) / R(step alone))",
            _part(found.estimate("prep_stall")),
        ),
        (
            "fetch stall",
            "(R(loader alone) \u2212 R(loader, empty page cache)) / R(step alone)",
            _part(found.estimate("fetch_stall")),
        ),
        ("with an empty page cache", "the verdict on the cold windows", verdict),
    ]


def _overlap(found: Node) -> list[_Row]:
    return [
        (
            "overlap efficiency",
            "max(T(loader), T(step)) / T(together); 1 when the shorter one is hidden",
            number(found.number("overlap_efficiency")),
        ),
        ("headroom", "R(loader alone) / R(step alone)", interval(found.estimate("headroom"))),
        (
            "contention tax",
            "T(compute, together) / T(step alone) \u2212 1",
            _part(found.estimate("contention_tax")),
        ),
    ]


def _waiting(found: Node) -> list[_Row]:
    wait, queue, service = (found.optional(key) for key in ("wait", "queue", "service_ms"))
    times = UNKNOWN if wait is None else _list(wait, ("p50_ms", "p90_ms", "p99_ms"), " ms")
    ready, starved = UNKNOWN, UNKNOWN
    if queue is not None:
        ready = f"{number(queue.number('mean'))} of {count(queue.number('capacity'))}"
        starved = f"{count(queue.number('starved'))} of {count(queue.number('requests'))}"
    parts = [part for part in ("fetch", "prep", "transfer") if service is not None and part in service]
    told = [f"{part} {unit(service.number(part), 'ms')}" for part in parts if service is not None]
    return [
        ("wait in next()", "p50 / p90 / p99 of a step", times),
        (
            "waits over 50 \u00b5s",
            "share of steps; tf.data's line for an input bottleneck",
            percent(wait.number("over_50us") if wait else None),
        ),
        ("time in next()", "share of the windows", percent(wait.number("share") if wait else None)),
        ("queue", "batches ready at a request, of those it may hold", ready),
        ("starved requests", "nothing was ready", starved),
        ("work for a step", "of all workers together, as the loader tells", ", ".join(told) or UNKNOWN),
    ]


def _storage(found: Node) -> list[_Row]:
    read, kept = found.optional("read"), found.optional("residency")
    amplified, resident = UNKNOWN, UNKNOWN
    if read is not None:
        per_image, patch = (size(read.number(key)) for key in ("bytes_per_image", "patch_bytes"))
        amplified = f"{number(read.number('amplification'))}: {per_image} for a patch of {patch}"
    if kept is not None:
        before, after, whole = (size(kept.number(key)) for key in ("before", "after", "data_bytes"))
        resident = f"{before} before, {after} after, of {whole}"
        if claim := kept.text("cold_claim"):
            resident += f"; {claim}"
    return [
        ("read amplification", "bytes read / bytes of the patch", amplified),
        ("data in the page cache", "counted before the first and after the last window", resident),
    ]


def _elsewhere(profile: Profile) -> list[_Row]:
    found = profile.findings
    noise = found.child("noise")
    unsteady = [ARMS.get(arm, arm) for arm, rate in profile.rates.items() if not rate.flag("steady")]
    return [
        (
            "AU as MLPerf Storage has it",
            "compute / running time without the first step; it asks for at least 90 %",
            percent(found.number("au_mlperf_storage")),
        ),
        (
            "the reference's mean of rates",
            "mean of each step's rate, as MLPerf's reference reports it: more than images / time whenever "
            "steps differ",
            unit(found.number("reference_mean_of_rates"), "images/s"),
        ),
        ("energy", "of the device, for an image", unit(found.number("energy_j_per_image"), "J")),
        (
            "noise",
            "interquartile range / median of steps; noisy from 10 %, too noisy from 25 %",
            f"{noise.text('grade')} ({percent(noise.number('iqr_over_median'))})",
        ),
        ("not steady", "arms with a trend, or halves that differ", ", ".join(unsteady) or "none"),
        (
            "averaging gradients",
            "1 \u2212 R(step) / R(step, gradients not averaged)",
            _part(found.estimate("allreduce_share")),
        ),
    ]


def _part(estimate: Estimate) -> str:
    return percent_interval(estimate)


def _list(node: Node, keys: Sequence[str], name: str) -> str:
    return " / ".join(number(node.number(key)) for key in keys) + name
