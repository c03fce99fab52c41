"""The flags of the data pipeline, and the loader that the command line asks for."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, get_args

from pipelines.bad_cases import OnBadCase
from pipelines.cases import Sharding
from pipelines.config import DaliPlace, DataCache, ImageDtype, LoaderConfig, Reader
from pipelines.errors import DataError
from pipelines.volumes import CacheDtype

_LARGEST = {int: 2**63 - 1, float: sys.float_info.max}
"""What is larger is a slip, and infinite seconds or rates are none."""


def number(
    kind: type, low: float, high: float = float("inf"), *, above: bool = False
) -> Callable[[str], Any]:
    """A converter for argparse that checks a range; ``above`` excludes ``low`` itself."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not (low < value if above else low <= value) or not value <= min(high, _LARGEST[kind]):
            bound = f"{'above' if above else 'of at least'} {low:g}" if low > -1e300 else ""
            limit = f" and at most {high:g}" if high < 1e300 else ""
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {name} {bound}{limit}, found {text!r}")
        return value

    return convert


def add_pipeline_flags(group: Any) -> None:
    """Add them to a group of a parser."""
    add = group.add_argument
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
        "--image_dtype", default="float32", choices=get_args(ImageDtype),
        help="dtype of the images in a batch; 16 bits go with --amp",
    )  # fmt: skip
    add(
        "--on_bad_case", default="stop", choices=get_args(OnBadCase),
        help="when a training case is unreadable, truncated, not finite or of unknown classes: stop; or let "
        "the next case stand in for its samples, which are counted (not in MLPerf's closed division)",
    )  # fmt: skip
    add(
        "--loader_timeout", type=number(float, 0.0, above=True), default=120.0,
        help="seconds after which a batch that does not come is an error",
    )  # fmt: skip


def loader_config(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> LoaderConfig:
    """The part of the flags that is the loader's; exits with one sentence where they do not go together."""
    if flags.image_dtype != "float32" and not flags.amp:
        parser.error(f"--image_dtype {flags.image_dtype} needs --amp: the network's weights are float32")
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
