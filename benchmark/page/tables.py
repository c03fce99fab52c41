"""Tables beside the metrics: rates, points, ranks, what ran, and on what."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.anchors import ANCHORS
from benchmark.page.digits import UNKNOWN, count, exact, interval, number, percent, percent_interval, size
from benchmark.page.markup import Markup, table
from benchmark.page.node import LARGEST
from benchmark.page.profiles import ARMS, Failure, Gathered, Profile


def rates_table(profiles: Sequence[Profile]) -> Markup:
    """A row for each arm of each profile."""
    head = [
        "arm", "images/s [95 %]", "steps", "windows", "seconds", "step p50 / p90 / p99 (ms)", "IQR / median",
        "outliers mild / far", "steady",
    ]  # fmt: skip
    rows = []
    for profile in profiles:
        for arm, rate in profile.rates.items():
            name = ARMS.get(arm, arm)
            rows.append(
                [
                    f"#{profile.number} {name}" if len(profiles) > 1 else name,
                    interval(rate.as_estimate("images_per_s")),
                    count(rate.number("steps")),
                    count(rate.number("windows")),
                    number(rate.number("window_s")),
                    " / ".join(number(rate.number(key)) for key in ("p50_ms", "p90_ms", "p99_ms")),
                    percent(rate.number("iqr_over_median")),
                    f"{count(rate.number('mild_outliers'))} / {count(rate.number('far_outliers'))}",
                    "yes" if rate.flag("steady") else f"no: {rate.text('unsteady_because')}",
                ]
            )
    note = "Outliers by Tukey's fences, 1.5 and 3 interquartile ranges (IQR) away: counted, never dropped."
    return table("Rates", head, rows, note)


def points_table(gathered: Gathered) -> Markup:
    """A row for each point, measured or not, in the order of their numbers."""
    head = [
        "point", "together, images/s", "loader alone", "step alone", "data stall", "headroom",
        "wait p99 (ms)", "noise", "verdict",
    ]  # fmt: skip
    everything: list[Profile | Failure] = [*gathered.profiles, *gathered.failures]
    rows = []
    for point in sorted(everything, key=lambda point: point.number):
        if isinstance(point, Failure):
            rows.append([point.name, ": ".join(filter(None, (point.status, point.reason)))])
            continue
        found = point.findings
        wait = found.optional("wait")
        rows.append(
            [
                point.name,
                *[interval(point.rate(arm)) for arm in ("both", "loader", "step")],
                percent_interval(found.estimate("data_stall")),
                number(found.estimate("headroom").value),
                number(wait.number("p99_ms") if wait else None),
                found.child("noise").text("grade"),
                found.child("verdict").text("name"),
            ]
        )
    return table("All points", head, rows)


def ranks_table(profile: Profile) -> Markup | None:
    """A row for each rank; None where there was one."""
    ranks = profile.findings.children("ranks")
    if not ranks:
        return None
    rows = [
        [
            f"rank {rank.whole('rank')}",
            number(rank.number("step_ms")),
            number(rank.number("stall_ms")),
            number(rank.number("compute_ms")),
            "yes" if rank.flag("straggler") else "no",
        ]
        for rank in ranks
    ]
    head = ["rank", "step (ms)", "without data (ms)", "compute (ms)", "straggler"]
    note = "Means of the step of loader and training step together. All ranks wait for a straggler."
    return table(f"Ranks of {profile.name}", head, rows, note)


def setup_table(profiles: Sequence[Profile]) -> Markup:
    """What ran: a column for each profile."""
    columns = [_setup(profile) for profile in profiles]
    rows = [[name, *[column[name] for column in columns]] for name in columns[0]]
    return table("What ran", ["", *[profile.name for profile in profiles]], rows)


def environment_table(gathered: Gathered) -> Markup:
    """Machine, versions and dates: a column for each record, those of one machine and day in one."""
    columns: dict[str, dict[str, str]] = {}
    for label, record in gathered.records:
        found = {"measured at": str(record.date), "suite": str(record.suite)} | flattened(record.environment)
        found |= {f"config: {name}": value for name, value in flattened(record.config).items()}
        columns[label] = found
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    rows = [[name, *[column.get(name, "") for column in columns.values()]] for name in names]
    return table("Machine, versions, configuration", ["", *columns], rows)


def flattened(values: Mapping[str, Any]) -> dict[str, str]:
    """Any plain values as one text each."""
    return {str(name): _text(value, str(name)) for name, value in values.items()}


def anchors_table() -> Markup:
    """Where the published rates in the figures come from."""
    rows = [
        [anchor.name, number(anchor.images_per_second), anchor.source, anchor.date]
        for anchor in ANCHORS.values()
    ]
    head = ["accelerator", "images/s of one", "source", "date"]
    return table("Published accelerators", head, rows)


def _setup(profile: Profile) -> dict[str, str]:
    results = profile.results
    plain = {
        key: count(results.number(key)) for key in ("batch_size", "ga_steps", "world_size", "images_per_step")
    }
    return {
        "loader": f"{results.text('loader')}: {results.text('description')}",
        "training step": results.text("step"),
        "patch": f"{' x '.join(map(str, profile.patch))} voxels",
        "batch": f"{plain['batch_size']}, and {plain['ga_steps']} of them in a step",
        "ranks": f"{plain['world_size']}, with {plain['images_per_step']} images in a step of all",
        "device": results.text("device"),
        "workers": f"{count(results.number('workers'))}, on {exact(results.number('usable_cpus'))} CPUs",
        "queue": f"{count(results.number('queue_batches'))} batches",
        "rounds": count(results.number("rounds")),
        "data set": _text(results.plain("dataset")),
        "pipeline": _text(results.plain("pipeline")),
    }


def _text(value: Any, name: str = "") -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner, str(key))}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_text(inner, name) for inner in value) or "none"
    if value is None:
        return UNKNOWN
    if "bytes" in name and isinstance(value, int | float) and abs(value) <= LARGEST:
        return size(value)
    return str(value)
