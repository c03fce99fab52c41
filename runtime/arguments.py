"""The command line of ``main.py``: every parameter of the MLPerf reference and ours, into frozen configs."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from model.unet3d import MLPERF_FILTERS
from pipelines.cases import Sharding
from pipelines.config import LOADERS, DaliPlace, DataCache, ImageDtype, LoaderConfig, Reader
from pipelines.errors import DataError
from pipelines.volumes import CacheDtype
from preprocess.flags import OneSentenceParser
from runtime.optimizers import OptimizerConfig
from runtime.schedule import EvaluationSchedule, LearningRate

CUBE = (128, 128, 128)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, as asked for. Nothing is written back; what follows from it is computed where it is needed."""

    exec_mode: str
    benchmark: bool
    warmup_steps: int
    benchmark_steps: int
    epochs: int
    quality_threshold: float
    evaluation: EvaluationSchedule | None
    """None: MLPerf's formula, from the samples per epoch."""
    seed: int
    local_rank: int
    log_dir: Path
    save_ckpt_path: Path | None
    save_every_steps: int | None
    load_ckpt_path: Path | None
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
    cudnn_benchmark: bool
    cudnn_deterministic: bool
    caches_cleared: str
    verbose: bool


def _number(kind: type, low: float, high: float = float("inf"), *, above: bool = False):  # type: ignore[no-untyped-def]
    """A converter for argparse that checks a range; ``above`` excludes ``low`` itself."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not (low < value if above else low <= value) or not value <= high:
            bound = f"{'above' if above else 'of at least'} {low:g}" if low > -1e300 else ""
            limit = f" and at most {high:g}" if high < 1e300 else ""
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {name} {bound}{limit}, found {text!r}")
        return value

    return convert


def _evaluation_epoch(text: str) -> int | str:
    return text if text == "auto" else int(_number(int, 1)(text))


COUNT, WHOLE = _number(int, 1), _number(int, 0)
RATE, FRACTION = _number(float, 0.0), _number(float, 0.0, 1.0)


def build_parser(local_rank: int = 0) -> argparse.ArgumentParser:
    """The parser, its groups as in the seed document; ``local_rank`` is the launcher's default."""
    parser = OneSentenceParser(
        prog="main.py",
        description="Train, evaluate or benchmark MLPerf U-Net3D on preprocessed KiTS19 volumes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("Input/Output parameters").add_argument
    add("--data_dir", type=Path, required=True, help="directory of the preprocessed case_*_x.npy and _y.npy")
    add("--log_dir", type=Path, default=Path("/tmp"), help="directory for the MLPerf log and benchmark.json")
    add("--save_ckpt_path", type=Path, help="file to keep the latest and the best state in")
    add(
        "--load_ckpt_path",
        type=Path,
        help="checkpoint to evaluate (its best) or to go on training (its last)",
    )
    add(
        "--save_every_steps", type=COUNT,
        help="optimiser steps between checkpoints, beside those after evaluations and at the end",
    )  # fmt: skip
    add("--loader", default="pytorch", choices=LOADERS, help="data loader")
    add(
        "--data_cache", default="none", choices=get_args(DataCache),
        help="where whole volumes are kept: in their files, in host memory once for all ranks of a machine, "
        "or on each rank's device (dali)",
    )  # fmt: skip
    add(
        "--cache_dtype", default="stored", choices=get_args(CacheDtype),
        help="what --data_cache keeps images as: as in the files, or rounded to float16",
    )  # fmt: skip
    add(
        "--reader", default="window", choices=get_args(Reader),
        help="how dali without a cache reads: windows, whole files, or whole files by GPUDirect Storage",
    )  # fmt: skip
    add(
        "--dali_device", default="auto", choices=get_args(DaliPlace),
        help="where dali augments; auto is the GPU where there is one",
    )  # fmt: skip
    add(
        "--sharding", default="global", choices=get_args(Sharding),
        help="order of the cases over all ranks, new every epoch; or cases of its own for every rank",
    )  # fmt: skip
    add(
        "--loader_timeout", type=_number(float, 0.0, above=True), default=120.0,
        help="seconds after which a batch that does not come is an error",
    )  # fmt: skip
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
    add("--seed", type=_number(int, -1, 2**63 - 1), default=-1, help="-1 asks the system's entropy")
    add("--num_workers", type=WHOLE, default=8, help="per rank: processes of pytorch, threads of dali")
    add("--benchmark", action="store_true", help="time each step and print images per second at the end")
    add("--warmup_steps", type=WHOLE, default=200, help="steps before the timed window of --benchmark")
    add("--benchmark_steps", type=COUNT, default=500, help="steps in the timed window of --benchmark")
    add("--amp", action="store_true", help="automatic mixed precision")
    add("--amp_dtype", default="float16", choices=["float16", "bfloat16"], help="dtype of --amp")
    add(
        "--image_dtype", default="float32", choices=get_args(ImageDtype),
        help="dtype of the images in a batch; 16 bits go with --amp",
    )  # fmt: skip
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
    add("--overlap", type=_number(float, 0.0, 0.99), default=0.5, help="overlap of evaluation windows")
    add("--cudnn_benchmark", action="store_true", help="let cuDNN time its algorithms")
    add("--cudnn_deterministic", action="store_true", help="only deterministic cuDNN algorithms")
    add(
        "--caches_cleared", default="unknown", choices=["yes", "refused", "unknown"],
        help="whether the launcher dropped the machine's caches, for the MLPerf log",
    )  # fmt: skip
    return parser


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


def _loader(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> LoaderConfig:
    names = set(LoaderConfig.__dataclass_fields__) & set(vars(flags))
    own = {name: getattr(flags, name) for name in names}
    own |= {
        "input_shape": tuple(flags.input_shape),
        "val_input_shape": tuple(flags.val_input_shape),
        "seed": max(flags.seed, 0),  # -1 is drawn when the ranks have met, see Session.of
        "timeout": flags.loader_timeout,
    }
    try:
        return LoaderConfig(**own)
    except DataError as error:
        parser.error(str(error))


def parse_arguments(argv: Sequence[str] | None = None, local_rank: int = 0) -> RunConfig:
    """The run that ``argv`` (default: the process's) asks for; exits with one sentence on a wrong flag."""
    parser = build_parser(local_rank)
    flags = parser.parse_args(argv)
    _check_shapes(parser, flags)
    if (
        "auto" in (flags.start_eval_at, flags.evaluate_every)
    ) and flags.start_eval_at != flags.evaluate_every:
        parser.error("--start_eval_at and --evaluate_every: both or neither must be auto")
    if flags.benchmark and (flags.save_ckpt_path or flags.load_ckpt_path):
        parser.error(
            "--benchmark times fresh weights and keeps none: drop --save_ckpt_path and --load_ckpt_path"
        )
    if flags.image_dtype != "float32" and not flags.amp:
        parser.error(f"--image_dtype {flags.image_dtype} needs --amp: the network's weights are float32")
    if flags.save_every_steps and not flags.save_ckpt_path:
        parser.error("--save_every_steps needs --save_ckpt_path, the file to save to")
    evaluation = None
    if flags.start_eval_at != "auto":
        evaluation = EvaluationSchedule(start=flags.start_eval_at, every=flags.evaluate_every)
    own = {field: getattr(flags, field) for field in RunConfig.__dataclass_fields__ if hasattr(flags, field)}
    own |= {
        "filters": tuple(flags.filters),
        "evaluation": evaluation,
        "loader": _loader(parser, flags),
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
