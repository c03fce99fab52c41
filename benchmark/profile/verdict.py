"""What holds the training back, in one word, one sentence, and what to do about it."""

import math
from dataclasses import dataclass
from typing import Any

from runtime.statistics import Interval

NEGLIGIBLE = 0.05
"""Part of a step's time that nobody needs to hunt: half of what MLPerf Storage lets pass (AU of 90 %)."""

_SOURCES = {
    "fetch": "reading the data",
    "prep": "preparing the batches",
    "transfer": "the way to the device",
    "contention": "the loader taking from the step what both need",
}


@dataclass(frozen=True)
class Verdict:
    """``name``: compute-bound, fetch-, prep-, transfer- or contention-bound, or inconclusive."""

    name: str
    sentence: str
    advice: str


def judge(
    breakdown_ms: dict[str, float], stall: Interval, contention: Interval, advice: dict[str, str]
) -> Verdict:
    """The verdict on a profile.

    A cause counts when the whole 95 % interval of its part of the step's time is above ``NEGLIGIBLE``: the
    wait for data, or the time that computing takes longer beside the loader. If one does, the largest of
    fetch, prep, transfer and contention names the verdict. If both intervals are below, it is the computing.
    Else it cannot be told.

    Args:
        breakdown_ms: See ``findings.breakdown``.
        stall: Part of a step's time in which the device waits for data.
        contention: Part of a step's time by which computing is slower beside the loader.
        advice: What to do, for each name but ``inconclusive``.
    """
    total = sum(breakdown_ms.values())
    waiting = {name: breakdown_ms[name] for name in ("fetch", "prep", "transfer")}
    causes: dict[str, float] = {}
    if stall.low > NEGLIGIBLE:
        causes |= waiting
    if contention.low > NEGLIGIBLE:
        causes["contention"] = breakdown_ms["contention"]
    if causes:
        name = max(causes, key=lambda cause: causes[cause])
        share = 100 * causes[name] / total
        sentence = f"{name}-bound: {share:.0f} % of a step's time goes to {_SOURCES[name]}"
        others = [f"{100 * value / total:.0f} % to {_SOURCES[other]}" for other, value in causes.items()
                  if other != name and value > NEGLIGIBLE * total]  # fmt: skip
        sentence += f" ({', '.join(others)})" if others else ""
        return Verdict(f"{name}-bound", sentence + ".", advice[f"{name}-bound"])
    if stall.high < NEGLIGIBLE and contention.high < NEGLIGIBLE:
        waits = 100 * stall.value
        return Verdict(
            "compute-bound",
            f"compute-bound: the step waits for data {waits:.1f} % of its time; the loader keeps up.",
            advice["compute-bound"],
        )
    return Verdict(
        "inconclusive", "inconclusive: " + _what_is_open(stall, contention), advice["inconclusive"]
    )


def too_noisy(spread: float, advice: str) -> Verdict:
    """The verdict on a machine whose steps scatter too much for any: see `statistics.noise`."""
    return Verdict(
        "inconclusive",
        f"inconclusive: the middle half of the steps alone spreads over {100 * spread:.0f} % of their "
        "median, and 25 % is too noisy.",
        advice,
    )


def _what_is_open(stall: Interval, contention: Interval) -> str:
    parts = [
        f"{what} take{ending} {_percent(interval)} of a step's time"
        for what, ending, interval in (
            ("waits for data", "", stall),
            ("contention with the loader", "s", contention),
        )
        if not interval.high < NEGLIGIBLE
    ]
    return f"{' and '.join(parts)}, where {100 * NEGLIGIBLE:.0f} % decides."


def _percent(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{100 * interval.value:.0f} % (too few steps for an interval)"
    return f"{100 * max(0.0, interval.low):.0f} to {100 * min(1.0, interval.high):.0f} %"


def advice(context: dict[str, Any], what_if: dict[str, Any] | None, needed_mb_per_s: float) -> dict[str, str]:
    """What to change, for each verdict.

    Args:
        context: ``loader``, ``data_cache``, ``device``, ``emulated``, ``workers`` and ``stored`` of the run.
        what_if: See ``what_if.model``.
        needed_mb_per_s: What storage would have to deliver for the step never to wait.
    """
    ours = context["loader"] in ("pytorch", "dali")
    cached = context["data_cache"] != "none"
    fetch = f"storage has to deliver {needed_mb_per_s:.0f} MB/s for this rate"
    if ours and not cached:
        fetch += (
            "; --data_cache host reads every case once, --storage_dtype float16 of preprocessing halves it"
        )
    elif cached:
        fetch += " until the cache is filled: a longer --window_warmup measures what comes after"
    prep = what_if["statement"] if what_if else "raise the number of its workers, or give it more CPUs"
    if context["loader"] == "pytorch" and context["device"] != "cpu":
        prep += "; --loader dali augments on the GPU"
    return {
        "compute-bound": "a faster loader gains nothing here; "
        + (
            "the emulated consumers are fed"
            if context["emulated"]
            else "work on the step: --amp, --layout NDHWC, a larger --batch_size"
        ),
        "fetch-bound": fetch,
        "prep-bound": prep,
        "transfer-bound": "send less: --image_dtype float16 with --amp halves images, --data_cache device "
        "(dali) sends none",
        "contention-bound": (
            "the loader and the step share these CPUs: fewer --num_workers leave more to the step, and more "
            "CPUs or a GPU for the step end it"
            if context["device"] == "cpu"
            else "take work from the GPU: --dali_device cpu, or --loader pytorch"
        ),
        "inconclusive": "measure longer (--seconds, --rounds), on a machine that does nothing else",
    }
