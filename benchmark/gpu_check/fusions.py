"""Fused operations beside what PyTorch composes for the same: forward, and forward with backward."""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmark.gpu_check import problems
from benchmark.gpu_check.problem import Maker, Problem
from benchmark.gpu_check.scale import Scale, dtype_of
from benchmark.gpu_check.timing import Call, copies_beyond_cache, time_calls

PASSES = {"norm": (3, 8)}
"""Reads and writes of the activation that a fused norm cannot do without: forward, and with backward. The
statistics take a pass before the output can be computed, and so do the sums in the backward pass."""


def measure(
    scale: Scale, op: str, names: list[str], dtype: str, shape: dict[str, int], ceilings: dict[str, float]
) -> dict[str, Any]:
    """One operation at one shape: by the kernels, and natively in NDHWC and, for the norm, in NCDHW."""
    maker = Maker(dtype_of(dtype), scale.device)
    make: Callable[..., Problem] = getattr(problems, op)
    own = {"ready": True} if op == "transposed" else {}
    first = make(maker, **shape, **own)
    touched = sum(tensor.nbytes for tensor in (*first.inputs.values(), *first.upstream.values()))
    copies = copies_beyond_cache(touched, scale.device)
    sets = [first, *(make(Maker(maker.dtype, maker.device, i), **shape, **own) for i in range(1, copies))]
    found = {"fused": _both(sets, "triton", scale), "native": _both(sets, "native", scale)}
    if op == "norm":
        found["native NCDHW"] = _both([_contiguous(problem) for problem in sets], "native", scale)
    values: dict[str, Any] = {"op": op, "layers": names, "dtype": dtype, **shape, "by": found}
    for place, name in enumerate(("forward", "both")):
        times = {who: rows[name]["median_s"] for who, rows in found.items()}
        values[f"speedup_{name}"] = times["native"] / times["fused"]
        if op in PASSES:
            moved = PASSES[op][place] * first.inputs["x"].nbytes
            values[f"gbps_{name}"] = moved / times["fused"] / 1e9
            if "gbps" in ceilings:
                values[f"share_of_copy_{name}"] = values[f"gbps_{name}"] / ceilings["gbps"]
    return values


def _both(sets: list[Problem], backend: str, scale: Scale) -> dict[str, Any]:
    forward: list[Call] = [partial(problem.forward, backend) for problem in sets]
    both: list[Call] = [partial(problem.solve, backend) for problem in sets]
    return {
        "forward": time_calls(forward, scale).values(),
        "both": time_calls(both, scale).values(),
    }


def _contiguous(problem: Problem) -> Problem:
    """The same in NCDHW."""
    return Problem(
        run=problem.run,
        inputs={name: tensor.contiguous() for name, tensor in problem.inputs.items()},
        of_samples=problem.of_samples,
        wanted=problem.wanted,
        upstream={name: tensor.contiguous() for name, tensor in problem.upstream.items()},
    )
