"""Which operations of the network are fused here, from what ``--fused`` asks and what the machine can do."""

import torch

from model.ops import NATIVE, OPS, Backend, Ops, why_no_triton
from runtime.arguments import RunConfig
from runtime.errors import RunError
from runtime.speed_arguments import PLAIN_BY_DEFAULT


def choose_ops(config: RunConfig, device: torch.device) -> tuple[Ops, str]:
    """Who computes what, and a sentence that says so.

    ``auto`` takes the kernels where they run. Elsewhere it takes PyTorch's own modules, except on a CPU in
    NDHWC, whose layout PyTorch's instance norm drops: there the plain twins keep it.

    Raises:
        RunError: What was asked for cannot run here.
    """
    speed, layout = config.speed, config.loader.layout
    why_not = why_no_triton(device)
    match speed.fused:
        case "triton":
            if why_not:
                raise RunError(f"--fused triton cannot run: {why_not}; use --fused auto, off or native")
            ops, reason = _ops("triton", config), "as asked"
        case "off":
            ops, reason = _ops("reference", config), "as asked"
        case "native":
            ops, reason = NATIVE, "as asked"
        case _ if layout != "NDHWC":
            ops, reason = NATIVE, f"auto: the kernels do not read --layout {layout}"
        case _ if device.type == "cpu":
            ops, reason = _ops("reference", config), "auto: no GPU, and these keep the layout"
        case _ if why_not:
            ops, reason = NATIVE, f"auto: {why_not}"
        case _:
            ops, reason = _ops("triton", config), "auto: a GPU that runs them"
    if speed.recompute_norm and ops.norm == "native":
        raise RunError(
            f"--recompute_norm needs the fused norm, which is not used here ({reason}): give --fused off or "
            "triton, --layout NDHWC and --normalization instancenorm"
        )
    return ops, f"fused: {_in_words(ops)} ({reason})"


def _ops(backend: Backend, config: RunConfig) -> Ops:
    by_default = OPS if backend == "triton" else PLAIN_BY_DEFAULT
    names = set(by_default if config.speed.fused_ops is None else config.speed.fused_ops)
    if config.normalization != "instancenorm":
        names -= {"norm", "join", "stem"}
    return Ops(**dict.fromkeys(names, backend))


def _in_words(ops: Ops) -> str:
    fused = [name for name in OPS if getattr(ops, name) != "native"]
    if not fused:
        return "nothing, PyTorch's own modules"
    backend = {"triton": "Triton's kernels", "reference": "plain formulas"}[getattr(ops, fused[0])]
    return f"{', '.join(fused)} by {backend}"
