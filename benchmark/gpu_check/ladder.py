"""The named configurations whose steps are timed, from the reference's way to everything on."""

from dataclasses import dataclass

from benchmark.gpu_check.scale import Scale

NDHWC = ("--layout", "NDHWC")
FLOAT16 = ("--amp", "--amp_dtype", "float16")
BFLOAT16 = ("--amp", "--amp_dtype", "bfloat16")
SHADOW = (*NDHWC, *BFLOAT16, "--shadow_weights")
INNER_OPS = ("--fused", "triton", "--fused_ops", "norm", "join", "loss")
ALL_OPS = (*INNER_OPS, "stem", "head")


@dataclass(frozen=True)
class Rung:
    """A configuration, by the flags of ``main.py``."""

    name: str
    what: str
    flags: tuple[str, ...]

    @property
    def needs_cuda(self) -> bool:
        """Whether there is nothing to run on a CPU."""
        return bool({"--cuda_graph", "--compile"} & set(self.flags))


RUNGS = (
    Rung("reference", "NCDHW, float16 with the dynamic scaler, as the MLPerf reference runs",
         (*FLOAT16, "--layout", "NCDHW", "--fused", "native")),
    Rung("ndhwc", "+ NDHWC", (*NDHWC, *FLOAT16, "--fused", "native")),
    Rung("norm", "+ fused norm", (*NDHWC, *FLOAT16, "--fused", "triton", "--fused_ops", "norm")),
    Rung("loss", "+ fused loss", (*NDHWC, *FLOAT16, "--fused", "triton", "--fused_ops", "norm", "loss")),
    Rung("join", "+ fused join", (*NDHWC, *FLOAT16, *INNER_OPS)),
    Rung("shadow", "+ shadow weights, bfloat16 without a scaler", (*SHADOW, *INNER_OPS)),
    Rung("ends", "+ fused stem and head: all that --fused covers", (*SHADOW, *ALL_OPS)),
    Rung("everything", "+ the step as a CUDA graph", (*SHADOW, *ALL_OPS, "--cuda_graph")),
)  # fmt: skip
"""The ladder, each rung the one before it and one thing more."""

BESIDE = (
    Rung("graph", "everything but the fused stem and head", (*SHADOW, *INNER_OPS, "--cuda_graph")),
    Rung("float16", "everything, in float16 with a static scale",
         (*NDHWC, *FLOAT16, "--static_loss_scale", "32768", "--shadow_weights", *ALL_OPS, "--cuda_graph")),
    Rung("search", "everything, ten of cuDNN's algorithms timed for each convolution",
         (*SHADOW, *ALL_OPS, "--cuda_graph", "--cudnn_benchmark")),
    Rung("compile", "ndhwc in bfloat16 through torch.compile",
         (*NDHWC, *BFLOAT16, "--fused", "native", "--compile")),
)  # fmt: skip
"""Beside the ladder."""

_BY_NAME = {rung.name: rung for rung in (*RUNGS, *BESIDE)}
_ORDER = (
    ("everything", "large"), ("graph", "large"), ("reference", "large"), ("everything", "small"),
    ("ndhwc", "large"), ("join", "large"), ("norm", "large"), ("ends", "large"), ("shadow", "large"),
    ("float16", "large"), ("loss", "large"), ("reference", "small"), ("join", "small"), ("ndhwc", "small"),
)  # fmt: skip
"""The most promising first, then what says most in the time that is left."""
_SLOW = (("search", "large"), ("compile", "large"))
"""What takes a minute or more before its first step."""


def points(slow: bool) -> list[tuple[Rung, str]]:
    """What to measure, in this order, each at the ``large`` or the ``small`` batch."""
    return [(_BY_NAME[name], batch) for name, batch in (_SLOW if slow else _ORDER)]


def rung(name: str) -> Rung:
    """By its name."""
    return _BY_NAME[name]


INTERPRETED = "ends"
"""The rung whose kernels a dry run interprets."""


def for_cpu(flags: tuple[str, ...], interpret: bool) -> list[str]:
    """Flags with which a CPU's dry run takes the same way.

    The kernels are interpreted, which takes seconds a step, only where asked; elsewhere the plain formulas
    take their place. float16 is bfloat16, in which a CPU has all operations of the network.
    """
    swaps = {"float16": "bfloat16"} | ({} if interpret else {"triton": "off"})
    return [swaps.get(flag, flag) for flag in flags if flag != "--cudnn_benchmark"]


def flags_of(scale: Scale, one: Rung) -> list[str]:
    """A rung's flags at this scale."""
    return for_cpu(one.flags, interpret=one.name == INTERPRETED) if scale.dry else list(one.flags)
