"""A step's measurements as lines to read."""

from collections.abc import Sequence
from typing import Any

from runtime.statistics import Interval, show


def lines(results: dict[str, Any]) -> list[str]:
    """Tables of what was measured, and the claims, each with its answer."""
    text: list[str] = []
    for batch in (results["time"] or {}).get("batches", ()):
        text += [*_time(batch), ""]
    if counts := results["counts"]:
        for precision in ("float32", "bfloat16"):
            text += [*_counts(precision, counts[precision]), ""]
    if memory := results["memory"]:
        for precision in ("float32", "bfloat16"):
            text += [*_memory(precision, memory[precision]), ""]
    return text + [
        f"{_ANSWER[claim['met']]:12}{claim['claim']} ({claim['value']:.3f}, limit {claim['limit']:g})"
        for claim in results["claims"]
    ]


_ANSWER = {True: "yes", False: "NO", None: "cannot tell"}


def _time(batch: dict[str, Any]) -> list[str]:
    rows = [
        ("step, CPU, float32", "s, median", "CPU s", "images/s / reference's", "peak MiB", "/ reference's")
    ]
    for name, own in batch["contenders"].items():
        speed, peak = own.get("speed_ratio"), own.get("peak_ratio")
        rows.append(
            (
                f"{name}, batch {batch['batch_size']}",
                f"{own['median_step_s']:.3f}",
                f"{own['median_cpu_s']:.3f}",
                _speed(speed) if speed else "-",
                f"{own['median_peak_bytes'] / 2**20:.0f}",
                f"{peak:.3f}" if peak else "-",
            )
        )
    agreement = batch["agreement"]
    apart = ", ".join("?" if d is None else f"{d:.1e}" for d in agreement["differences"])
    said = "agree" if agreement["agree"] else "DO NOT AGREE"
    return [
        *_table(rows),
        f"losses of the first steps {said}: apart by {apart} of their size, {agreement['tolerance']:g} "
        "allowed",
    ]


def _speed(ratio: dict[str, Any]) -> str:
    if ratio["low"] is None:
        return f"{ratio['value']:.3f}"
    return show(Interval(ratio["value"], ratio["low"], ratio["high"]))


def _counts(precision: str, found: dict[str, Any]) -> list[str]:
    parts = list(next(iter(found.values()))["parts"])
    rows = [(f"launches, {precision}", *parts, "all", "with views", "dispatches")]
    for name, row in found.items():
        numbers = (*row["parts"].values(), row["launches"], row["with_views"], row["dispatches"])
        rows.append((name, *map(str, numbers)))
    return _table(rows)


def _memory(precision: str, found: dict[str, Any]) -> list[str]:
    rows = [(f"saved for backward, {precision}", "MB an image", "/ reference's", "MB besides")]
    for name, row in found.items():
        per_image, besides = (f"{row[what] / 1e6:.1f}" for what in ("per_image_bytes", "fixed_bytes"))
        rows.append((name, per_image, f"{row['ratio']:.3f}", besides))
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]
