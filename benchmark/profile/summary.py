"""The results of a profile: its phases, and everything that follows from them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmark.profile import findings, what_if
from benchmark.profile.findings import Phases, at_most_one, plain, quotient
from benchmark.profile.phases import Phase
from benchmark.profile.verdict import Verdict, advice, judge, too_noisy
from runtime import statistics
from runtime.statistics import Interval, mapped


@dataclass(frozen=True, kw_only=True)
class Context:
    """What was measured; plain values, as the record keeps them."""

    description: str
    """What the loader says of itself."""
    loader: str
    step: str
    emulated: dict[str, Any] | None
    batch_size: int
    ga_steps: int
    world_size: int
    images_per_step: int
    """Of all ranks together."""
    patch: list[int]
    patch_bytes: int
    """Of an image and its label, as they are in a batch."""
    device: str
    data_cache: str
    workers: int
    """Of one rank."""
    usable_cpus: float
    queue_batches: int
    """Batches of a rank that may be ready at a time."""
    data_bytes: int | None
    """Of all training files; None where none are read, or nobody says which."""
    memory_bytes: int
    rounds: int


def results(context: Context, phases: Sequence[Phase], ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For a record; ``findings`` is null where an arm is missing, as after an interruption."""
    complete = {"loader", "step", "both"} <= {phase.arm for phase in phases}
    return asdict(context) | {
        "phases": [asdict(phase) for phase in phases],
        "findings": find(context, phases, ranks) if complete else None,
    }


def find(context: Context, measured: Sequence[Phase], ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything that follows from phases of at least the arms loader, step and both."""
    # Twice what may be ready at a time: so far may a burst of finished batches couple steps.
    phases = Phases(measured, block=2 * max(1, context.queue_batches // context.ga_steps))
    images = context.images_per_step
    rates = findings.rates(phases, images)
    computing = phases.mean(phases.steps("step"))
    together, loading, taking = phases.steps("both"), phases.steps("loader"), phases.steps("step")
    of_ceiling = quotient(phases, together, taking)
    headroom = quotient(phases, loading, taking)
    # What a rank reads and takes is told for its own images.
    own = images // context.world_size
    reads = findings.read(phases, own, context.patch_bytes) if context.loader != "synthetic" else None
    model = _what_if(context, phases, rates)
    needed = (
        (reads["bytes_per_image"] if reads else context.patch_bytes) * rates["step"]["images_per_s"] / 1e6
    )
    says = advice(
        {"loader": context.loader, "data_cache": context.data_cache, "device": context.device,
         "emulated": context.emulated},
        model,
        needed,
    )  # fmt: skip
    # The step alone tells the machine's noise; beside the loader, steps come in bursts too.
    noise = statistics.noise([s for window in taking for s in window])
    parts = findings.breakdown(phases, computing)
    verdict, tax = _judge(phases, parts, "both", says)
    if noise.grade == "too noisy":
        verdict = too_noisy(noise.iqr_over_median, says["inconclusive"])
    found = {
        "rates": rates,
        "data_stall": plain(mapped(of_ceiling, lambda x: 1 - x)),
        "prep_stall": plain(mapped(headroom, lambda x: 1 - at_most_one(x))),
        "fetch_stall": plain(_fetch_stall(phases, headroom)),
        "stall_share": plain(findings.stall_share(phases)),
        "breakdown_ms": parts,
        "service_ms": _services(phases),
        "wait": findings.waits(phases),
        "queue": findings.queue(phases, context.queue_batches),
        "overlap_efficiency": max(phases.mean(loading), computing) / phases.mean(together),
        "headroom": plain(headroom),
        "contention_tax": plain(tax),
        "read": reads,
        "residency": _residency(context, measured),
        "au_mlperf_storage": findings.utilisation(phases),
        "reference_mean_of_rates": statistics.mean_of_rates([s for w in together for s in w], images),
        "energy_j_per_image": findings.energy_per_image(phases, own),
        "noise": {"grade": noise.grade, "iqr_over_median": noise.iqr_over_median},
        "ranks": _stragglers(ranks) if len(ranks) > 1 else None,
        "allreduce_share": None,
        "what_if": model,
        "verdict": asdict(verdict),
        "cold": None,
    }
    if phases.of("step-local"):
        local = quotient(phases, taking, phases.steps("step-local"))
        found["allreduce_share"] = plain(mapped(local, lambda x: 1 - x))
    if phases.of("both-cold"):
        cold_parts = findings.breakdown(phases, computing, "both-cold")
        found["cold"] = {
            "breakdown_ms": cold_parts,
            "wait": findings.waits(phases, "both-cold"),
            "verdict": asdict(_judge(phases, cold_parts, "both-cold", says)[0]),
        }
    return found


def _judge(
    phases: Phases, parts: dict[str, float], arm: str, says: dict[str, str]
) -> tuple[Verdict, Interval]:
    """The verdict on an arm, and its contention tax."""
    stall = findings.stall_share(phases, arm)
    slower = quotient(phases, phases.compute(arm), phases.steps("step"))
    share = mapped(slower, lambda x: (1 - stall.value) * (1 - x))
    return judge(parts, stall, share, says), mapped(slower, lambda x: 1 / x - 1)


def _fetch_stall(phases: Phases, headroom: Interval) -> Interval | None:
    if not phases.of("loader-cold"):
        return None
    cold = quotient(phases, phases.steps("loader-cold"), phases.steps("step"))
    headroom, cold = (mapped(each, at_most_one) for each in (headroom, cold))
    value = headroom.value - cold.value
    half = math.hypot(headroom.high - headroom.low, cold.high - cold.low) / 2
    return Interval(value, value - half, value + half)


def _services(phases: Phases) -> dict[str, float] | None:
    parts = {part: phases.service("loader", part) for part in ("fetch", "prep", "transfer")}
    return {part: 1000 * value for part, value in parts.items() if value is not None} or None


def _what_if(context: Context, phases: Phases, rates: dict[str, Any]) -> dict[str, Any] | None:
    fetch, prep = phases.service("loader", "fetch"), phases.service("loader", "prep")
    # A graph does part of the work, which its host's workers do not tell.
    if fetch is None or prep is None or phases.service("loader", "host_wait") is not None:
        return None
    return what_if.model(
        fetch_s=fetch * context.world_size,
        prep_s=prep * context.world_size,
        workers=max(1, context.workers) * context.world_size,
        cpus=context.usable_cpus,
        images_per_step=context.images_per_step,
        measured_images_per_s=rates["loader"]["images_per_s"],
        needed_images_per_s=rates["step"]["images_per_s"],
    )


def _residency(context: Context, measured: Sequence[Phase]) -> dict[str, Any] | None:
    told = [p for p in measured if p.resident_before is not None and p.resident_after is not None]
    if not told or not context.data_bytes:
        return None
    claim = ""
    if any(phase.cache == "cold" for phase in told) and context.data_bytes < 5 * context.memory_bytes:
        claim = (
            "cold means one pass from an empty page cache: the data set of "
            f"{context.data_bytes / 1e9:.1f} GB is smaller than 5 x the {context.memory_bytes / 1e9:.0f} GB "
            "of RAM, which MLPerf Storage asks for, so a longer run would find it in memory"
        )
    warm = [phase for phase in told if phase.cache != "cold"]
    return {
        "data_bytes": context.data_bytes,
        "before": warm[0].resident_before if warm else None,
        "after": warm[-1].resident_after if warm else None,
        "cold_before": next((p.resident_before for p in told if p.cache == "cold"), None),
        "cold_after": next((p.resident_after for p in reversed(told) if p.cache == "cold"), None),
        "cold_claim": claim,
    }


def _stragglers(ranks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Marks a rank whose own work takes 5 % longer than the median rank's: all others wait for it."""
    own = [rank["local_ms"] + rank["stall_ms"] for rank in ranks]
    median = sorted(own)[(len(own) - 1) // 2]
    return [dict(rank, straggler=time > 1.05 * median) for rank, time in zip(ranks, own, strict=True)]


def longest(stalls: Sequence[Sequence[int]]) -> list[int]:
    """Of each step the longest stall of any rank, for which all wait that step together."""
    return [max(of_step) for of_step in zip(*stalls, strict=True)]


def of_rank(phases: Sequence[Phase], rank: int) -> dict[str, Any]:
    """What rank 0 wants to know of each rank: mean milliseconds of a step."""
    own = Phases(phases, block=1)
    step, stall = own.mean(own.steps("both")), own.mean(own.stalls("both"))
    alone = own.mean(own.steps("step-local" if own.of("step-local") else "step"))
    return {
        "rank": rank,
        "step_ms": 1000 * step,
        "stall_ms": 1000 * stall,
        "compute_ms": 1000 * (step - stall),
        "local_ms": 1000 * alone,
    }
