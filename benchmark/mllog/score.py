"""The official mean over the runs of a result, as ``mlperf_logging.result_summarizer`` forms it."""

from collections.abc import Iterable

RUNS = 40
"""Of a unet3d result (``mlperf_logging.benchmark_meta``)."""
DROPPED = 4
"""The best and the worst runs that do not count: so many at each end."""


def official_mean(values: Iterable[float], unconverged: int) -> float | None:
    """The mean without the ``DROPPED`` smallest and largest; runs that did not converge are the largest.

    None where more than ``DROPPED`` did not converge or nothing is left to average: there is no score. The
    number of runs is not checked, as it is not by the summarizer.
    """
    if unconverged > DROPPED:
        return None
    ranked = sorted(values)
    counted = ranked[DROPPED : max(0, len(ranked) - (DROPPED - unconverged))]
    return sum(counted) / len(counted) if counted else None
