"""A profile's findings as lines to read, the verdict last."""

from typing import Any

from runtime.statistics import Interval, show

_ARMS = {
    "loader": "loader alone",
    "step": "step alone",
    "step-local": "step alone, no all-reduce",
    "both": "both together",
    "loader-cold": "loader alone, cold",
    "both-cold": "both together, cold",
}


def lines(results: dict[str, Any]) -> list[str]:
    """What a profile found."""
    found = results["findings"]
    return [
        f"data: {results['description']}",
        *(_rate(_ARMS[arm], values) for arm, values in found["rates"].items()),
        *_stalls(found),
        *_waiting(found),
        f"overlap efficiency {found['overlap_efficiency']:.2f}, headroom {_times(found['headroom'])}, "
        f"contention tax {percent(found['contention_tax'])}",
        *_reading(found),
        f"for comparison: AU as MLPerf Storage has it {100 * found['au_mlperf_storage']:.1f} %; the MLPerf "
        f"reference's mean of rates {found['reference_mean_of_rates']:.4g} img/s",
        *_ranks(found),
        *_remarks(found),
        headline(results),
        *([f"with a cold cache {found['cold']['verdict']['sentence']}"] if found["cold"] else []),
        f"verdict: {found['verdict']['sentence']}",
        f"what to do: {found['verdict']['advice']}",
    ]


def headline(results: dict[str, Any]) -> str:
    """The rate of loader and step together, as ``main.py --benchmark`` prints its own."""
    found = results["findings"]
    both, ceiling = found["rates"]["both"], found["rates"]["step"]["images_per_s"]
    share = both["images_per_s"] / ceiling
    emulated = results["emulated"]
    whose = f" with {emulated['accelerators']} x {emulated['name']} emulated" if emulated else ""
    return (
        f"{_interval(both)} img/s{whose} (n={both['steps']}, window {both['window_s']:.1f} s in "
        f"{both['windows']}), {100 * share:.0f} % of compute ceiling, data stall "
        f"{100 * max(0.0, 1 - share):.0f} %"
    )


def percent(value: dict[str, float | None]) -> str:
    """A fraction with its interval, in percent."""
    if value["low"] is None:
        return f"{100 * _known(value['value']):.1f} %"
    low, high = _known(value["low"]), _known(value["high"])
    return f"{100 * _known(value['value']):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _rate(name: str, values: dict[str, Any]) -> str:
    because = values["unsteady_because"]
    remark = (
        f"; UNSTEADY: {because}" if not values["steady"] else f"; no interval: {because}" if because else ""
    )
    return (
        f"{name:26}{_interval(values):>24} img/s; step p50 {values['p50_ms']:.1f}, "
        f"p90 {values['p90_ms']:.1f}, p99 {values['p99_ms']:.1f} ms (n={values['steps']}){remark}"
    )


def _interval(values: dict[str, Any]) -> str:
    if values["low"] is None:
        return f"{values['images_per_s']:.3g}"
    return show(Interval(values["images_per_s"], values["low"], values["high"]))


def _stalls(found: dict[str, Any]) -> list[str]:
    parts = found["breakdown_ms"]
    named = ", ".join(f"{name} {parts[name]:.1f}" for name in ("fetch", "prep", "transfer"))
    text = [
        f"data stall {percent(found['data_stall'])}; a step is {sum(parts.values()):.1f} ms: compute "
        f"{parts['compute']:.1f}, contention {parts['contention']:.1f}, waits: {named}"
    ]
    if services := found["service_ms"]:
        each = ", ".join(f"{name} {value:.1f}" for name, value in services.items())
        text.append(f"the loader's work for a step, all workers together: {each} ms")
    if found["fetch_stall"]:
        text.append(
            f"by rates alone: prep stall {percent(found['prep_stall'])}, fetch stall "
            f"{percent(found['fetch_stall'])}"
        )
    return text


def _waiting(found: dict[str, Any]) -> list[str]:
    text = []
    if waits := found["wait"]:
        text.append(
            f"next(): p50 {waits['p50_ms']:.2f}, p90 {waits['p90_ms']:.2f}, p99 {waits['p99_ms']:.2f} ms; "
            f"{100 * waits['over_50us']:.0f} % of them above tf.data's 50 us"
        )
    if queue := found["queue"]:
        text.append(
            f"queue: {queue['mean']:.1f} of {queue['capacity']} batches ready on average, none at "
            f"{queue['starved']} of {queue['requests']} requests"
        )
    return text


def _reading(found: dict[str, Any]) -> list[str]:
    text = []
    if read := found["read"]:
        text.append(
            f"read {read['bytes_per_image'] / 1e6:.1f} MB an image, {read['amplification']:.1f} x its "
            f"{read['patch_bytes'] / 1e6:.1f} MB"
        )
    if (pages := found["residency"]) and pages["before"] is not None:
        text.append(
            f"page cache: {pages['before'] / 1e9:.2f} of {pages['data_bytes'] / 1e9:.2f} GB of the data "
            f"before, {pages['after'] / 1e9:.2f} after"
        )
    if found["energy_j_per_image"] is not None:
        text.append(f"energy: {found['energy_j_per_image']:.1f} J an image")
    return text


def _ranks(found: dict[str, Any]) -> list[str]:
    text = []
    for rank in found["ranks"] or ():
        text.append(
            f"rank {rank['rank']}: step {rank['step_ms']:.1f} ms, waiting for data {rank['stall_ms']:.1f}, "
            f"alone {rank['local_ms']:.1f}{', STRAGGLER' if rank['straggler'] else ''}"
        )
    if found["allreduce_share"]:
        text.append(f"all-reduce: {percent(found['allreduce_share'])} of a step without a loader")
    return text


def _remarks(found: dict[str, Any]) -> list[str]:
    text = []
    noise = found["noise"]
    if noise["grade"] != "quiet":
        text.append(
            f"{noise['grade'].upper()}: the middle half of the steps spreads over "
            f"{100 * noise['iqr_over_median']:.0f} % of their median"
        )
    if (pages := found["residency"]) and pages["cold_claim"]:
        text.append(f"note: {pages['cold_claim']}")
    return text


def _times(value: dict[str, float | None]) -> str:
    if value["low"] is None:
        return f"{_known(value['value']):.2f} x"
    return f"{show(Interval(*(_known(value[name]) for name in ('value', 'low', 'high'))))} x"


def _known(value: float | None) -> float:
    if value is None:
        raise ValueError("a value that is not known was asked for")
    return value
