"""The last line of ``--benchmark``: a rate, how sure it is, and how far from what the step alone reaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import DataError
from runtime import statistics


@dataclass(frozen=True)
class Headline:
    """A line to read, remarks to read before it, and the same as plain values."""

    line: str
    remarks: tuple[str, ...]
    values: dict[str, Any]

    @classmethod
    def of(
        cls,
        step_seconds: Sequence[float],
        ceiling_seconds: Sequence[float],
        *,
        images_per_step: int,
        window_s: float,
        block: int,
    ) -> "Headline":
        """From the timed steps, and those on a resident batch (none, where they were not asked for).

        Args:
            step_seconds: Of the timed window.
            ceiling_seconds: Of steps without a loader.
            images_per_step: Of all ranks together.
            window_s: Length of the window between its synchronised edges.
            block: Steps that the prefetch queue may couple, see `statistics.rate`.
        """
        images_per_s = images_per_step * len(step_seconds) / window_s
        values: dict[str, Any] = {"images_per_second_low": None, "images_per_second_high": None}
        remarks = []
        rate = f"{images_per_s:.2f} img/s"
        try:
            # Steps that a GPU overlaps are counted by its clock; the window is the host's, and decides.
            interval = statistics.rate([step_seconds], images_per_step, block)
            scale = images_per_s / interval.value
            interval = statistics.Interval(*(scale * value for value in interval))
            value, low, high = statistics.show_parts(interval)
            rate = f"{value} img/s [{low}, {high}]"
            values |= {"images_per_second_low": interval.low, "images_per_second_high": interval.high}
            steadiness = statistics.steadiness(step_seconds, block)
            values |= {"steady": steadiness.steady, "unsteady_because": steadiness.because}
            if not steadiness.steady:
                remarks.append(f"UNSTEADY: {steadiness.because}; more --warmup_steps may help")
        except DataError as error:
            remarks.append(f"no interval: {error}")
        line = f"{rate} (n={len(step_seconds)}, window {window_s:.1f} s)"
        if ceiling_seconds:
            ceiling = images_per_step * len(ceiling_seconds) / sum(ceiling_seconds)
            stall = 1 - images_per_s / ceiling
            values |= {"ceiling_images_per_second": ceiling, "ceiling_steps": len(ceiling_seconds)}
            values["data_stall"] = stall
            line += (
                f", {100 * (1 - stall):.0f} % of compute ceiling, data stall {100 * max(0.0, stall):.0f} %"
            )
        return cls(line, tuple(remarks), values)
