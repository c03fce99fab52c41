"""The short table at the end: what came out, the most important last."""

from typing import Any

from benchmark.gpu_check.journal import FAILED, NEEDS_CUDA, NOT_RUN, OK, WRONG, Journal, Outcome
from benchmark.gpu_check.lines import ANCHOR
from benchmark.gpu_check.lines import curves as curves_line
from benchmark.gpu_check.lines import end_to_end as end_to_end_line
from benchmark.gpu_check.scale import Scale

MOST_NAMED = 8


def table(journal: Journal, scale: Scale) -> list[str]:
    """Lines that fit a screen."""
    return [
        versions(journal.environment),
        *_ceilings(journal),
        *_failures(journal),
        *_convolutions(journal, scale),
        *_fusions(journal),
        *_curves(journal),
        *(f"{one.name}: {end_to_end_line(one.values)}" for one in journal.of("end-to-end") if one.values),
        *_tests(journal),
        *_steps(journal, scale),
        _counts(journal),
        *_best(journal, scale),
    ]


def versions(environment: dict[str, Any]) -> str:
    """Device, driver and versions."""
    packages = environment["packages"]
    names = [f"{name} {packages[name]}" for name in ("torch", "triton", "numpy") if name in packages]
    gpus = [gpu["name"] for gpu in environment["gpus"]] or ["no GPU"]
    driver = [f"driver {gpu['driver_version']}" for gpu in environment["gpus"] if gpu.get("driver_version")]
    own = [f"CUDA {environment['cuda']}", f"cuDNN {environment['cudnn']}", *names]
    where = [f"Python {environment['python']}", f"commit {environment.get('commit', 'unknown')[:9]}"]
    return ", ".join([*gpus, *driver, *own, *where])


def _ceilings(journal: Journal) -> list[str]:
    found = [
        f"{v['dtype']} matmul {v['tflops']:.0f} TFLOP/s"
        if v["what"] == "matmul"
        else f"copy {v['gbps']:.0f} GB/s"
        for v in journal.values("ceilings")
    ]
    return ["ceilings: " + ", ".join(found)] if found else []


def _failures(journal: Journal) -> list[str]:
    found = []
    for section in ("exactness", "kernels", "tests"):
        wrong = [f"{one.name} ({one.reason})" for one in journal.of(section) if one.status == WRONG]
        if wrong:
            found.append(f"WRONG in {section}: {_some(wrong)}")
    exact = journal.of("exactness")
    right, wrong_ones = (sum(one.status == status for one in exact) for status in (OK, WRONG))
    judged_so = f"exactness: {right} right, {wrong_ones} wrong, {len(exact) - right - wrong_ones} not judged"
    return [*[judged_so] * bool(exact), *found, *_not_done(journal)]


def _not_done(journal: Journal) -> list[str]:
    found = []
    for section in journal.sections():
        for status in (FAILED, NOT_RUN):
            names = [one.name for one in journal.of(section) if one.status == status]
            if names:
                found.append(f"{status} in {section}: {_some(names)}")
    return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return "; ".join(name[:160] for name in names[:MOST_NAMED]) + more


def _convolutions(journal: Journal, scale: Scale) -> list[str]:
    found = []
    for dtype in ("bfloat16", "float16"):
        rows = [values for values in journal.values("convolutions") if values["dtype"] == dtype]
        if not rows:
            continue
        parts = []
        for direction in ("forward", "d_input", "d_weight"):
            seconds = [_seconds(values, direction) for values in rows]
            parts.append(f"{direction} {1000 * sum(seconds):.2f}")
        shapes = sum(len(values["layers"]) for values in rows)
        total = sum(_seconds(values, where) for values in rows for where in values["directions"])
        slowest = max(rows, key=lambda values: sum(_seconds(values, where) for where in values["directions"]))
        share = sum(_seconds(slowest, where) for where in slowest["directions"]) / total
        found.append(
            f"convolutions {dtype}, batch {scale.large_batch}, {shapes} layers: {1000 * total:.2f} ms "
            f"({', '.join(parts)}), most in {'='.join(slowest['layers'])} ({100 * share:.0f} %)"
        )
    return found


def _seconds(values: dict[str, Any], direction: str) -> float:
    """Of all layers of this shape."""
    row = values["directions"].get(direction)
    return len(values["layers"]) * row["timing"]["median_s"] if row else 0.0


def _fusions(journal: Journal) -> list[str]:
    found = []
    for op in dict.fromkeys(values["op"] for values in journal.values("fusions")):
        rows = [values for values in journal.values("fusions") if values["op"] == op]
        sums = {
            who: sum(len(values["layers"]) * values["by"][who]["both"]["median_s"] for values in rows)
            for who in rows[0]["by"]
        }
        times = ", ".join(f"{who} {1000 * seconds:.2f}" for who, seconds in sums.items())
        layers = sum(len(values["layers"]) for values in rows)
        found.append(f"{op}, {layers} layers, forward and backward: {times} ms")
    return found


def _curves(journal: Journal) -> list[str]:
    return [
        f"loss curves {'agree' if one.status == OK else 'DIFFER'}: {curves_line(one.values)}"
        for one in journal.of("curves")
        if one.values and "agrees" in one.values
    ]


def _tests(journal: Journal) -> list[str]:
    return [
        f"{one.name}: " + ", ".join(f"{count} {kind}" for kind, count in one.values["counts"].items())
        for one in journal.of("tests")
        if one.values
    ]


def _steps(journal: Journal, scale: Scale) -> list[str]:
    found = [f"{'step':<24}{'img/s':>8}{'ms':>9}{'TFLOP/s':>9}{'share':>7}{'GB':>7}{'of 76.0':>9}"]
    for one in sorted(_all_steps(journal), key=_rate):
        if one.values is None:
            found.append(f"{one.name:<24}{one.status}: {one.reason}"[:110])
            continue
        values, top = one.values, _arithmetic_ceiling(journal, one.values)
        share = f"{100 * values['tflops'] / top:.0f} %" if top else "-"
        memory = f"{values['peak_bytes'] / 1e9:.1f}" if values["peak_bytes"] is not None else "-"
        beside = "-" if scale.dry else f"{values['images_per_s'] / ANCHOR:.2f}"
        found.append(
            f"{one.name:<24}{values['images_per_s']:>8.2f}{values['ms_per_step']:>9.2f}{values['tflops']:>9.1f}"
            f"{share:>7}{memory:>7}{beside:>9}"
        )
    return found if len(found) > 1 else []


def _all_steps(journal: Journal) -> list[Outcome]:
    return [*journal.of("ladder"), *journal.of("preparing")]


def _rate(one: Outcome) -> float:
    return one.values["images_per_s"] if one.values else 0.0


def _arithmetic_ceiling(journal: Journal, values: dict[str, Any]) -> float | None:
    dtype = "bfloat16" if "bfloat16" in values["flags"] else "float16"
    found = [v["tflops"] for v in journal.values("ceilings") if v["what"] == "matmul" and v["dtype"] == dtype]
    return found[0] if found else None


def _counts(journal: Journal) -> str:
    return (
        f"{journal.count(OK)} ok, {journal.count(WRONG)} wrong, {journal.count(FAILED)} failed, "
        f"{journal.count(NOT_RUN)} not run, {journal.count(NEEDS_CUDA)} need CUDA"
    )


def _best(journal: Journal, scale: Scale) -> list[str]:
    if scale.dry:
        return ["this was a dry run on a CPU, at other sizes: none of its numbers is a measurement"]
    found = []
    for batch in (scale.small_batch, scale.large_batch):
        of_batch = [one for one in _all_steps(journal) if one.values and one.values["batch"] == batch]
        if of_batch:
            best = max(of_batch, key=_rate)
            values = best.values or {}
            top = _arithmetic_ceiling(journal, values)
            share = f" ({100 * values['tflops'] / top:.0f} % of its matmul)" if top else ""
            found.append(
                f"fastest step: {best.name}: {values['images_per_s']:.1f} img/s, {values['tflops']:.0f} "
                f"TFLOP/s{share}; {values['images_per_s'] / ANCHOR:.2f} x NVIDIA's {ANCHOR:.1f} (H200, batch "
                "7, end to end)"
            )
    return found
