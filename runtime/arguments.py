"""The command line of ``main.py``: every parameter of the MLPerf reference and ours, into frozen configs."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.unet3d import MLPERF_FILTERS
from pipelines.config import LOADERS, LoaderConfig
from preprocess.flags import OneSentenceParser
from runtime.checkpoint_arguments import CheckpointConfig, add_checkpoint_flags, checkpoint_config
from runtime.loader_arguments import add_pipeline_flags, loader_config, number
from runtime.mlperf_arguments import MlperfConfig, add_mlperf_flags, mlperf_config
from runtime.optimizers import OptimizerConfig
from runtime.schedule import EvaluationSchedule, LearningRate
from runtime.speed_arguments import SpeedConfig, add_speed_flags, speed_config

CUBE = (128, 128, 128)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, as asked for. Nothing is written back; what follows from it is computed where it is needed."""

    exec_mode: str
    benchmark: bool
    warmup_steps: int
    benchmark_steps: int
    ceiling_steps: int
    epochs: int
    quality_threshold: float
    evaluation: EvaluationSchedule | None
    """None: MLPerf's formula, from the samples per epoch."""
    seed: int
    local_rank: int
    eval_ranks: int
    """The last so many ranks evaluate and do not train."""
    untimed_warmup_steps: int
    log_dir: Path
    load_ckpt_path: Path | None
    """To evaluate; what training goes on from is ``checkpoint``'s."""
    checkpoint: CheckpointConfig
    rank_timeout: float
    """Seconds without a sign of life after which a rank counts as hanging."""
    normalization: str
    activation: str
    filters: tuple[int, ...]
    include_background: bool
    overlap: float
    amp: bool
    amp_dtype: str
    loader: LoaderConfig
    optimizer: OptimizerConfig
    learning_rate: LearningRate
    speed: SpeedConfig
    mlperf: MlperfConfig
    caches_cleared: str
    verbose: bool


def _evaluation_epoch(text: str) -> int | str:
    return text if text == "auto" else int(number(int, 1)(text))


COUNT, WHOLE = number(int, 1), number(int, 0)
RATE, FRACTION = number(float, 0.0), number(float, 0.0, 1.0)


def build_parser(local_rank: int = 0) -> argparse.ArgumentParser:
    """The parser of ``main.py``; ``local_rank`` is the launcher's default."""
    parser = OneSentenceParser(
        prog="main.py",
        description="Train, evaluate or benchmark MLPerf U-Net3D on preprocessed KiTS19 volumes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add_run_flags(parser, local_rank)
    return parser


def one_of_ours(text: str) -> str:
    """The name of a loader of this repository; an argparse type."""
    if text not in LOADERS:
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(LOADERS)})")
    return text


def add_run_flags(
    parser: argparse.ArgumentParser, local_rank: int = 0, loader: Callable[[str], str] = one_of_ours
) -> None:
    """Add the flags of a run, in the groups of the seed document; ``loader`` checks ``--loader``."""
    files = parser.add_argument_group("Input/Output parameters")
    add = files.add_argument
    add("--data_dir", type=Path, required=True, help="directory of the preprocessed case_*_x.npy and _y.npy")
    add("--log_dir", type=Path, default=Path("/tmp"), help="directory for the MLPerf log and benchmark.json")
    add(
        "--loader", default="pytorch", type=loader, metavar="{" + ",".join(LOADERS) + "}",
        help="data loader",
    )  # fmt: skip
    add_checkpoint_flags(files)
    add("--local_rank", type=WHOLE, default=local_rank, help="rank on this machine, set by torchrun")

    add = parser.add_argument_group("Runtime parameters").add_argument
    add("--exec_mode", default="train", choices=["train", "evaluate"], help="what to run")
    add("--batch_size", type=COUNT, default=2, help="patches per process and micro-batch")
    add("--ga_steps", type=COUNT, default=1, help="micro-batches per optimiser step")
    add("--epochs", type=COUNT, default=1, help="last epoch of training")
    add(
        "--evaluate_every", "--eval_every", type=_evaluation_epoch, default=20, metavar="N|auto",
        help="epochs between evaluations; auto is MLPerf's ceil(20*168/samples per epoch)",
    )  # fmt: skip
    add(
        "--start_eval_at", type=_evaluation_epoch, default=1000, metavar="N|auto",
        help="first epoch with an evaluation; auto is MLPerf's ceil(1000*168/samples per epoch)",
    )  # fmt: skip
    add(
        "--layout", default="NCDHW", choices=["NCDHW", "NDHWC"],
        help="order of the axes in memory; NDHWC is torch's channels_last_3d",
    )  # fmt: skip
    add("--input_shape", type=COUNT, nargs="+", default=list(CUBE), help="training patch in voxels, D H W")
    add("--val_input_shape", type=COUNT, nargs="+", default=list(CUBE), help="evaluation window, D H W")
    add("--seed", type=number(int, -1, 2**63 - 1), default=-1, help="-1 asks the system's entropy")
    add("--num_workers", type=WHOLE, default=8, help="per rank: processes of pytorch, threads of dali")
    add("--benchmark", action="store_true", help="time each step and print images per second at the end")
    add("--warmup_steps", type=WHOLE, default=200, help="steps before the timed window of --benchmark")
    add("--benchmark_steps", type=COUNT, default=500, help="steps in the timed window of --benchmark")
    add(
        "--ceiling_steps", type=WHOLE, default=20,
        help="steps on one resident batch after the timed window of --benchmark: the rate without a loader",
    )  # fmt: skip
    add(
        "--eval_ranks", type=WHOLE, default=0,
        help="so many ranks, the last ones, evaluate while the others train on",
    )  # fmt: skip
    add(
        "--rank_timeout", type=number(float, 2.0), default=60.0,
        help="seconds without a sign of life after which a rank counts as hanging, and all end",
    )  # fmt: skip
    add(
        "--untimed_warmup_steps", type=WHOLE, default=0,
        help="steps on synthetic data before the clock starts, undone to the last bit",
    )  # fmt: skip
    add("--amp", action="store_true", help="automatic mixed precision")
    add("--amp_dtype", default="float16", choices=["float16", "bfloat16"], help="dtype of --amp")
    add("--last_batch", default="drop", choices=["drop", "pad"], help="cases that fill no global batch")
    add("--quality_threshold", type=FRACTION, default=0.908, help="mean Dice at which training stops")

    add = parser.add_argument_group("Optimizer parameters").add_argument
    add("--optimizer", default="sgd", choices=["sgd", "adam", "lamb"], help="type of optimizer")
    add(
        "--optimizer_backend", default="auto", choices=["auto", "torch", "apex"],
        help="whose optimizer; auto takes NVIDIA apex's on a GPU where it is installed",
    )  # fmt: skip
    add("--learning_rate", type=RATE, default=1.0, help="learning rate after warm-up")
    add("--momentum", type=FRACTION, default=0.9, help="Nesterov momentum of sgd")
    add("--init_learning_rate", type=RATE, default=1e-4, help="learning rate at which warm-up begins")
    add("--lr_warmup_epochs", type=WHOLE, default=0, help="epochs of linear warm-up")
    add("--lr_decay_epochs", type=COUNT, nargs="+", default=[], help="milestones of the decay")
    add("--lr_decay_factor", type=RATE, default=1.0, help="factor at each milestone")
    add("--lamb_betas", type=FRACTION, nargs=2, default=[0.9, 0.999], help="beta1 and beta2 of lamb")
    add("--weight_decay", type=RATE, default=0.0, help="weight decay factor")

    add_pipeline_flags(parser.add_argument_group("Data pipeline parameters"))
    add_speed_flags(parser.add_argument_group("Speed parameters"))
    add_mlperf_flags(parser.add_argument_group("MLPerf parameters"))

    add = parser.add_argument_group("Model parameters").add_argument
    add("--normalization", default="instancenorm", choices=["instancenorm", "batchnorm", "syncbatchnorm"])
    add("--activation", default="relu", choices=["relu", "leaky_relu"])
    add(
        "--filters", type=COUNT, nargs="+", default=list(MLPERF_FILTERS),
        help="channels per level; anything but the default is not MLPerf's network",
    )  # fmt: skip
    add("--include_background", action="store_true", help="count the background in Dice")

    add = parser.add_argument_group("Other parameters").add_argument
    add("--verbose", "-v", action="store_true", help="progress bars")
    add("--oversampling", type=FRACTION, default=0.4, help="fraction of crops biased to the foreground")
    add(
        "--brightness", default="reference", choices=["reference", "nvidia"],
        help="factor of the brightness augmentation: 1+U(0.7,1.3), or NVIDIA's U(0.7,1.3)",
    )  # fmt: skip
    add("--overlap", type=number(float, 0.0, 0.99), default=0.5, help="overlap of evaluation windows")
    add("--cudnn_benchmark", action="store_true", help="let cuDNN time its algorithms")
    add("--cudnn_deterministic", action="store_true", help="only deterministic cuDNN algorithms")
    add(
        "--caches_cleared", default="unknown", choices=["yes", "refused", "unknown"],
        help="whether the launcher dropped the machine's caches, for the MLPerf log",
    )  # fmt: skip


def _check_shapes(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    levels = len(flags.filters)
    factor = 2**levels
    for flag in ("input_shape", "val_input_shape"):
        shape = getattr(flags, flag)
        if len(shape) != 3:
            parser.error(f"--{flag}: expected three sizes D H W, found {len(shape)}")
        if any(size % factor for size in shape):
            parser.error(
                f"--{flag}: the {levels} levels of --filters halve each axis {levels} times, so sizes must "
                f"be multiples of {factor}, found {shape}"
            )
        lone = flags.normalization == "instancenorm" or flags.batch_size == 1
        if lone and max(shape) == factor:
            parser.error(f"--{flag}: {shape} leaves a single voxel to normalise at the lowest level")
    if any(int(size * (1 - flags.overlap)) < 1 for size in flags.val_input_shape):
        parser.error(f"--overlap: {flags.overlap} of --val_input_shape leaves no stride of a voxel; lower it")


def parse_arguments(argv: Sequence[str] | None = None, local_rank: int = 0) -> RunConfig:
    """The run that ``argv`` (default: the process's) asks for; exits with one sentence on a wrong flag."""
    parser = build_parser(local_rank)
    return run_config(parser, parser.parse_args(argv))


def run_config(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> RunConfig:
    """The run that the parsed flags ask for; exits by ``parser`` where they do not go together."""
    _check_shapes(parser, flags)
    if (
        "auto" in (flags.start_eval_at, flags.evaluate_every)
    ) and flags.start_eval_at != flags.evaluate_every:
        parser.error("--start_eval_at and --evaluate_every: both or neither must be auto")
    if flags.eval_ranks and (flags.benchmark or flags.exec_mode != "train"):
        parser.error("--eval_ranks is for training runs: drop it, or --benchmark and --exec_mode evaluate")
    if flags.eval_ranks and flags.normalization == "syncbatchnorm":
        parser.error("--eval_ranks: syncbatchnorm would wait for ranks that do not train; use batchnorm")
    evaluation = None
    if flags.start_eval_at != "auto":
        evaluation = EvaluationSchedule(start=flags.start_eval_at, every=flags.evaluate_every)
    own = {field: getattr(flags, field) for field in RunConfig.__dataclass_fields__ if hasattr(flags, field)}
    if flags.exec_mode == "train":
        own["load_ckpt_path"] = None
    own |= {
        "filters": tuple(flags.filters),
        "evaluation": evaluation,
        "loader": loader_config(parser, flags),
        "checkpoint": checkpoint_config(parser, flags),
        "speed": speed_config(parser, flags),
        "mlperf": mlperf_config(flags),
        "optimizer": OptimizerConfig(
            name=flags.optimizer,
            momentum=flags.momentum,
            betas=tuple(flags.lamb_betas),
            weight_decay=flags.weight_decay,
            backend=flags.optimizer_backend,
        ),
        "learning_rate": LearningRate(
            base=flags.learning_rate,
            initial=flags.init_learning_rate,
            warmup_epochs=flags.lr_warmup_epochs,
            decay_epochs=tuple(flags.lr_decay_epochs),
            decay_factor=flags.lr_decay_factor,
        ),
    }
    return RunConfig(**own)
