"""What happened to a GPU while it was measured: for the record, and for whoever reads the rate."""

from typing import Any

from benchmark.nvml import Device, describe_gpu, device_index, slowed_seconds

_WORTH_A_WORD = 0.01
"""Fraction of the measurement for which a GPU must have been slowed down."""


class Disturbances:
    """Looks before and after a measurement.

    Args:
        device: As torch counts; nothing is known to disturb one that is no GPU.
        nvml: Stands in for pynvml in tests.
    """

    def __init__(self, device: Device, nvml: Any = None) -> None:
        self._index, self._nvml = device_index(device), nvml
        self._slowed: dict[str, float] = {}
        self._others: set[int] = set()

    def start(self) -> None:
        """The measurement begins."""
        if self._index is not None:
            self._slowed, self._others = slowed_seconds(self._index, self._nvml), self._processes()

    def stop(self, seconds: float) -> list[str]:
        """What was found, a sentence each; the measurement took ``seconds``."""
        if self._index is None:
            return []
        found = []
        for reason, total in slowed_seconds(self._index, self._nvml).items():
            slowed = total - self._slowed.get(reason, total)
            if slowed > _WORTH_A_WORD * seconds:
                found.append(f"the GPU was slowed down by {reason} for {slowed:.1f} of {seconds:.1f} s")
        if others := sorted(self._others | self._processes()):
            found.append(f"the GPU was shared with process {', '.join(map(str, others))}")
        return found

    def _processes(self) -> set[int]:
        """Pids; in a container NVML gives the host's, and a single one may be ours."""
        others = describe_gpu(self._index or 0, self._nvml).get("other_processes") or ()
        return {other["pid"] for other in others}
