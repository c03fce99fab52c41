"""The flags of the fast paths: which kernels the network uses, and how a step is run."""

import argparse
from dataclasses import dataclass
from typing import Any, Literal, get_args

from model.ops import OPS
from runtime.loader_arguments import number

Fused = Literal["auto", "triton", "off", "native"]
PLAIN_BY_DEFAULT = ("norm", "join", "loss")
"""What plain formulas cover unless asked: their first and last convolution are slower than PyTorch's own.
The kernels cover everything, which on an H200 was 10 % faster than without those two."""
CUDNN_TRIES = 10
"""PyTorch's own default. On an H200 it took 24 s to time all algorithms of five convolutions, and made them
3 % faster."""
OF_TRAINING = ("recompute_norm", "shadow_weights", "cuda_graph", "compile")


@dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """How the same training is made faster. Nothing here changes what a step computes, beyond rounding."""

    fused: Fused = "native"
    fused_ops: tuple[str, ...] | None = None
    """None: all by the kernels, `PLAIN_BY_DEFAULT` by plain formulas."""
    recompute_norm: bool = False
    shadow_weights: bool = False
    cuda_graph: bool = False
    compile: bool = False
    static_loss_scale: float | None = None
    cudnn_benchmark: bool = False
    cudnn_benchmark_limit: int = CUDNN_TRIES
    cudnn_deterministic: bool = False
    ddp_one_bucket: bool = False
    ddp_gradient_dtype: str = "float32"
    val_batch_size: int = 1


def add_speed_flags(group: Any) -> None:
    """Add them to a group of a parser."""
    add = group.add_argument
    add(
        "--fused", default="auto", choices=get_args(Fused),
        help="triton: our kernels; off: their formulas in plain PyTorch; native: PyTorch's own modules; "
        "auto: the kernels on a GPU that runs them, and says what it chose",
    )  # fmt: skip
    add(
        "--fused_ops", nargs="+", choices=OPS, metavar="OP",
        help=f"what --fused covers, of {', '.join(OPS)}: instance norm with its activation; transposed "
        "convolution and skip connection in one buffer; the loss; first and last convolution; default: all "
        "by the kernels, the first three by plain formulas",
    )  # fmt: skip
    add(
        "--recompute_norm", action="store_true",
        help="rebuild the output of each norm in the backward pass instead of keeping it",
    )  # fmt: skip
    add(
        "--shadow_weights", action="store_true",
        help="keep 16-bit copies of the convolutions' weights between steps, for --amp",
    )  # fmt: skip
    add("--cuda_graph", action="store_true", help="record the step once as a CUDA graph and replay it")
    add("--compile", action="store_true", help="run the network through torch.compile")
    add(
        "--static_loss_scale", type=number(float, 0.0, above=True), metavar="SCALE",
        help="constant loss scale of --amp_dtype float16, in place of the dynamic one; nothing is checked "
        "for overflow (NVIDIA's submissions: 32768)",
    )  # fmt: skip
    add(
        "--cudnn_benchmark_limit", type=number(int, 0), metavar="N",
        help=f"how many algorithms --cudnn_benchmark times for each shape; 0 is all (default: {CUDNN_TRIES})",
    )  # fmt: skip
    add(
        "--ddp_one_bucket", action="store_true",
        help="all gradients of a rank in one all-reduce, after the backward pass",
    )  # fmt: skip
    add(
        "--ddp_gradient_dtype", default="float32", choices=["float32", "float16", "bfloat16"],
        help="dtype in which ranks exchange gradients",
    )  # fmt: skip
    add("--val_batch_size", type=number(int, 1), default=1, help="evaluation windows per forward pass")


def speed_config(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> SpeedConfig:
    """The part of the flags that is about speed; exits with one sentence where they do not go together."""
    own = {name: getattr(flags, name) for name in SpeedConfig.__dataclass_fields__}
    if flags.fused_ops is not None:
        own["fused_ops"] = tuple(name for name in OPS if name in flags.fused_ops)
    if flags.cudnn_benchmark_limit is None:
        own["cudnn_benchmark_limit"] = CUDNN_TRIES
    fused_ops = PLAIN_BY_DEFAULT if flags.fused_ops is None else flags.fused_ops
    if flags.exec_mode == "evaluate":
        for name in OF_TRAINING:
            if getattr(flags, name):
                parser.error(f"--{name} is of training steps: drop it with --exec_mode evaluate")
    if flags.compile and flags.shadow_weights:
        parser.error("--compile fuses autocast's casts itself: drop --shadow_weights")
    if flags.cudnn_benchmark_limit is not None and not flags.cudnn_benchmark:
        parser.error("--cudnn_benchmark_limit needs --cudnn_benchmark, the search that it limits")
    if flags.fused != "native" and "join" in fused_ops and "norm" not in fused_ops:
        parser.error("--fused_ops join needs norm, which makes room for it in the buffer")
    if flags.fused == "triton" and flags.layout != "NDHWC":
        parser.error("--fused triton needs --layout NDHWC, the only layout its kernels read")
    if flags.recompute_norm and flags.fused == "native":
        parser.error("--recompute_norm rebuilds what the fused norm computed: give --fused triton or off")
    if flags.recompute_norm and "norm" not in fused_ops:
        parser.error("--recompute_norm needs norm among --fused_ops")
    if flags.shadow_weights and not flags.amp:
        parser.error("--shadow_weights needs --amp: without it the convolutions use the float32 weights")
    if flags.static_loss_scale and not (flags.amp and flags.amp_dtype == "float16"):
        parser.error(
            "--static_loss_scale needs --amp with --amp_dtype float16: other gradients need no scale"
        )
    if flags.normalization != "instancenorm" and flags.fused == "triton" and "norm" in fused_ops:
        parser.error(f"--fused triton has no kernel for --normalization {flags.normalization}: drop norm and "
                     "join from --fused_ops")  # fmt: skip
    return SpeedConfig(**own)
