"""What a soak found, as a table, notes and plain values for a record."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmark.soak.sampling import Sample
from benchmark.soak.training import Soak
from benchmark.soak.trend import LIMITS, Trend, trends

MOST_POINTS = 400
"""Of a series in a record."""
_WIDTH = 60
_BARS = "▁▂▃▄▅▆▇█"

NOTES = """# {heading}

{table}

`{command}`. Each loader trains a small network (levels of 8 and 16 channels, patches of 32^3) on {cases}
phantom volumes of {edge}^3, with 2 workers, a checkpoint every 100 steps and an evaluation every 400. All
processes of the run are looked at every {every:g} s; the first fifth of the steps does not count. Slopes are
Theil-Sen's, the median over all pairs of samples.

* **Memory** is the sum of proportional set sizes: shared pages count once. It passes below 1 MB per 1,000
  steps.
* **Descriptors, threads, /dev/shm** pass where the slope adds less than half of one over the whole run (of
  bytes in /dev/shm: less than 64 KiB). It is {whose}.
* Each run was ended by SIGTERM, which has to give status 143 and leave no process.

Memory over time, from the lowest to the highest sample:

```
{series}
```

`record.json` has the series, at most {points} points of each.
"""


def verdict(found: Soak) -> list[str]:
    """What of a soak is not as it should be."""
    seen = trends(found.samples)
    wrong = [
        f"{name} grows by {one.per_1000_steps:.4g} per 1,000 steps"
        for name, one in seen.items()
        if not one.flat
    ]
    if not seen:
        wrong.append("too few samples to say anything")
    if found.status != 143:
        wrong.append(f"ended with {found.status} after SIGTERM, expected 143")
    return wrong + [f"left behind: {line}" for line in found.left]


def values(found: Soak) -> dict[str, Any]:
    """Of a record: verdict, trends and the series."""
    kept = decimated(found.samples)
    names = list(asdict(kept[0])) if kept else []
    return {
        "loader": found.loader,
        "status": found.status,
        "wrong": verdict(found),
        "trends": {name: asdict(trend) for name, trend in trends(found.samples).items()},
        "samples": len(found.samples),
        "series": {name: [getattr(sample, name) for sample in kept] for name in names},
    }


def decimated(samples: Sequence[Sample]) -> list[Sample]:
    """Evenly spread ones, the first and the last among them."""
    if len(samples) <= MOST_POINTS:
        return list(samples)
    step = (len(samples) - 1) / (MOST_POINTS - 1)
    return [samples[round(i * step)] for i in range(MOST_POINTS)]


def table(soaks: Sequence[Soak]) -> list[list[str]]:
    """A heading, and a row for each value of each soak."""
    lines = [["loader", "value", "after warm-up", "at the end", "per 1,000 steps", "limit", "verdict"]]
    for found in soaks:
        for name, trend in trends(found.samples).items():
            lines.append([found.loader, name.replace("_", " "), *_cells(name, trend)])
    return lines


def _cells(name: str, trend: Trend) -> list[str]:
    limit = LIMITS[name]
    scale, unit = (1e6, " MB") if name == "memory_bytes" else (1.0, "")
    allowed = (
        f"{limit.per_1000_steps / 1e6:g} MB per 1,000 steps"
        if limit.per_1000_steps
        else f"{limit.over_all:g} in all"
    )
    return [
        f"{trend.first / scale:.6g}{unit}",
        f"{trend.last / scale:.6g}{unit}",
        f"{trend.per_1000_steps / scale:+.3g}{unit}",
        allowed,
        "flat" if trend.flat else "GROWS",
    ]


def heading(soaks: Sequence[Soak]) -> str:
    """What was found, in a line."""
    minutes = sum(found.samples[-1].seconds for found in soaks if found.samples) / 60
    steps = sum(found.samples[-1].steps for found in soaks if found.samples)
    wrong = [line for found in soaks for line in verdict(found)]
    memory = [trends(found.samples)["memory_bytes"] for found in soaks if trends(found.samples)]
    most = max((trend.per_1000_steps for trend in memory), default=float("nan"))
    said = "; ".join(wrong) if wrong else "all flat"
    return (
        f"{minutes:.0f} minutes and {steps} steps of training: memory {most / 1e6:+.3f} MB per 1,000 steps "
        f"at most; {said}"
    )


def spark(samples: Sequence[Sample]) -> str:
    """Memory over time as a line of bars, with its lowest and highest value."""
    sizes = [sample.memory_bytes for sample in samples]
    low, high = min(sizes), max(sizes)
    parts = [sizes[i * len(sizes) // _WIDTH : (i + 1) * len(sizes) // _WIDTH] for i in range(_WIDTH)]
    scale = (len(_BARS) - 1) / ((high - low) or 1)
    bars = "".join(_BARS[round((max(part) - low) * scale)] for part in parts if part)
    return f"{bars}  {low / 1e6:.1f} to {high / 1e6:.1f} MB"
