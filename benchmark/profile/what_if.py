"""How the loader's rate would change with its workers: a model, stated, and scaled to what was measured."""

import math
from typing import Any

STATEMENT = (
    "a batch takes its worker {fetch:.1f} ms of waiting for data and {prep:.1f} ms of a CPU, so that N "
    "workers make N / {both:.1f} ms, and {cpus} CPUs at most {cpus} / {prep:.1f} ms"
)


def model(
    *,
    fetch_s: float,
    prep_s: float,
    workers: int,
    cpus: float,
    images_per_step: int,
    measured_images_per_s: float,
    needed_images_per_s: float,
) -> dict[str, Any]:
    """Rates for 1 ... workers and the smallest number of workers that would do.

    Workers wait for data side by side, but share the CPUs: rate(N) = min(N / (fetch + prep), cpus / prep),
    times the quotient of the measured rate and the model's at the present number of workers.

    Args:
        fetch_s: Seconds of waiting for data, for a step of all ranks.
        prep_s: Seconds of work, for a step of all ranks.
        workers: Of all ranks, now.
        cpus: That they may use.
        images_per_step: Of all ranks.
        measured_images_per_s: Of the loader alone, now.
        needed_images_per_s: Of the step alone.
    """
    both = max(fetch_s + prep_s, 1e-9)

    def rate(count: int) -> float:
        return images_per_step * min(count / both, cpus / max(prep_s, 1e-9))

    scale = measured_images_per_s / rate(workers)
    limit = max(workers, math.ceil(cpus * both / max(prep_s, 1e-9)))
    enough = next((n for n in range(1, limit + 1) if scale * rate(n) >= needed_images_per_s), None)
    last = max(workers, enough or 0, min(limit, 2 * workers)) + 1
    if enough is None:
        needed_cpus = needed_images_per_s / (scale * rate(limit)) * cpus
        wanted = (
            f"no number of workers removes the stall on {cpus:g} CPUs, it would take about {needed_cpus:.0f} "
            "such CPUs or less work for an image"
        )
    elif enough <= workers:
        wanted = f"{enough} worker{'s' * (enough != 1)} would do"
    else:
        wanted = f"{enough} workers remove the stall (--num_workers, over all ranks)"
    basis = STATEMENT.format(fetch=1000 * fetch_s, prep=1000 * prep_s, both=1000 * both, cpus=f"{cpus:g}")
    return {
        "basis": "model",
        "statement": f"{wanted}: {basis}, scaled to the {workers} measured",
        "workers": list(range(1, last + 1)),
        "images_per_s": [scale * rate(n) for n in range(1, last + 1)],
        "needed_images_per_s": needed_images_per_s,
        "enough": enough,
    }
