"""What is printed of each result as it comes: one line, or one for each direction."""

from typing import Any

from benchmark.anchors import ANCHORS

ANCHOR = ANCHORS["nvidia-h200"].images_per_second
"""Images per second of an H200 in NVIDIA's submission to MLPerf Training v4.0: batch 7, end to end."""

Values = dict[str, Any]


def ceiling(values: Values) -> str:
    """Of `benchmark.gpu_check.ceilings`."""
    if values["what"] == "copy":
        return f"device copy {values['gbps']:.0f} GB/s (read and written)"
    return f"matmul {values['dtype']} {values['tflops']:.1f} TFLOP/s"


def exactness(values: Values) -> str:
    """Of `benchmark.gpu_check.exactness`."""
    pairs = values["errors"].values()
    unknown = any(pair["kernel"] is None for pair in pairs)
    kernel = "not a number" if unknown else f"{max(pair['kernel'] for pair in pairs):.1e}"
    native = max(pair["native"] or 0.0 for pair in pairs)
    again = {True: "same bits twice", False: "DIFFERENT BITS TWICE", None: "run once"}[values["repeatable"]]
    return f"{kernel} (native {native:.1e}), {again}"


def step(values: Values) -> str:
    """Of `benchmark.gpu_check.steps`."""
    memory = "" if values["peak_bytes"] is None else f", peak {values['peak_bytes'] / 1e9:.1f} GB"
    return (
        f"{values['images_per_s']:.2f} img/s, {values['ms_per_step']:.2f} ms/step "
        f"[p10 {values['p10_ms']:.2f}, p90 {values['p90_ms']:.2f}], {values['tflops']:.1f} TFLOP/s{memory}"
    )


def convolution(values: Values) -> str:
    """Of `benchmark.gpu_check.convolutions`."""
    return "; ".join(f"{name} {_row(row)}" for name, row in values["directions"].items())


def _row(row: Values) -> str:
    flops, moved = f"{row['tflops']:.0f}", f"{row['gbps']:.0f}"
    if "share_of_tflops" in row:
        flops += f", {100 * row['share_of_tflops']:.0f} %"
    if "share_of_gbps" in row:
        moved += f", {100 * row['share_of_gbps']:.0f} %"
    return f"{_us(row['timing'])} ({flops}; {moved})"


def _us(timing: Values) -> str:
    return f"{1e6 * timing['median_s']:.1f}"


def fusion(values: Values) -> str:
    """Of `benchmark.gpu_check.fusions`."""
    times = ", ".join(
        f"{who} {_us(rows['forward'])} / {_us(rows['both'])}" for who, rows in values["by"].items()
    )
    found = f"{times}: {values['speedup_forward']:.2f}x / {values['speedup_both']:.2f}x"
    if "share_of_copy_both" in values:
        shares = [100 * values[f"share_of_copy_{name}"] for name in ("forward", "both")]
        found += f"; {shares[0]:.0f} % / {shares[1]:.0f} % of the copy"
    return found


def curve(values: Values) -> str:
    """Of `benchmark.gpu_check.curves`."""
    if "agrees" in values:
        return curves(values)
    losses = values["losses"]
    return f"{losses[0]:.4f} to {losses[-1]:.4f} in {len(losses)} steps"


def curves(values: Values) -> str:
    """What curves say together."""
    apart = ", ".join(
        f"{name} {largest:.4f} (mean {mean:.4f})"
        for name, (largest, mean) in values["largest_and_mean_difference"].items()
    )
    first, last = values["native_first_and_last"]
    return f"native {first:.4f} to {last:.4f}; largest distance from it: {apart}"


def end_to_end(values: Values) -> str:
    """Of `benchmark.gpu_check.commands`."""
    found = f"{values['images_per_second']:.2f} img/s"
    if values["ceiling_images_per_second"]:
        found += (
            f", {values['ceiling_images_per_second']:.2f} without a loader, data stall "
            f"{100 * max(0.0, values['data_stall']):.0f} %"
        )
    return found


def kernels(values: Values) -> str:
    """Of `benchmark.gpu_check.convolutions`."""
    return "".join(f"\n  {where}: {name}" for where, name in values["kernels"].items())


def tests(values: Values) -> str:
    """Of `benchmark.gpu_check.commands`."""
    return ", ".join(f"{count} {kind}" for kind, count in values["counts"].items())
