"""What a loader is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pipelines.bad_cases import OnBadCase
from pipelines.cases import LastBatch, Sharding
from pipelines.draw import Brightness, Shape
from pipelines.errors import DataError
from pipelines.slots import Layout
from pipelines.volumes import CacheDtype
from preprocess.spec import EVALUATION_CASES_FILE

LOADERS = ("pytorch", "dali", "synthetic")
DataCache = Literal["none", "host", "device"]
Reader = Literal["window", "file", "gds"]
DaliPlace = Literal["auto", "gpu", "cpu"]
DaliDevice = Literal["cpu", "gpu"]
ImageDtype = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Everything that decides which batches come, and how.

    Raises DataError for a loader that does not exist or numbers that make no loader.
    """

    loader: str = "pytorch"
    """A key of ``LOADERS``."""
    data_dir: Path = Path("/data")
    """Folder of ``case_*_x.npy`` and ``case_*_y.npy``; the synthetic loader does not look at it."""
    evaluation_cases: Path = EVALUATION_CASES_FILE
    """File with the ids of the evaluation cases."""
    batch_size: int = 2
    """Per rank and micro-batch."""
    ga_steps: int = 1
    """Micro-batches per optimiser step."""
    input_shape: Shape = (128, 128, 128)
    """D x H x W of a training patch."""
    val_input_shape: Shape = (128, 128, 128)
    """D x H x W of a sliding window: sets the size of synthetic evaluation volumes."""
    overlap: float = 0.5
    """Fraction of a sliding window that the next one covers again. Evaluation cases are shared among ranks by
    the number of their windows."""
    oversampling: float = 0.4
    """Probability that a patch is cropped around foreground."""
    brightness: Brightness = "reference"
    last_batch: LastBatch = "drop"
    seed: int = 0
    """Of order, crops and augmentation; in [0, 2**63). The same on all ranks."""
    num_workers: int = 4
    """Per rank: worker processes of ``pytorch``, where 0 reads in the training process; threads of ``dali``,
    both its own and those that read for it, at least one."""
    prefetch: int = 2
    """Batches each worker is ahead."""
    layout: Layout = "NCDHW"
    image_dtype: ImageDtype = "float32"
    """Of the images in a batch."""
    sharding: Sharding = "global"
    data_cache: DataCache = "none"
    """Where whole volumes are kept: in their files; in host memory that all ranks of the machine share; or,
    for ``dali``, in the memory of the training device."""
    cache_dtype: CacheDtype = "stored"
    reader: Reader = "window"
    """How ``dali`` without a cache reads: windows; whole files; or whole files by GPUDirect Storage."""
    dali_device: DaliPlace = "auto"
    """Where ``dali`` augments; ``auto`` is the GPU where training is on one."""
    on_bad_case: OnBadCase = "stop"
    """What becomes of a training sample whose case cannot be read, or holds values that are not finite or
    unknown classes: ``stop`` raises it; under ``skip`` the next case in the order of numbers stands in."""
    timeout: float = 120.0
    """Seconds after which a batch that does not come is an error."""

    def __post_init__(self) -> None:
        if self.loader not in LOADERS:
            raise DataError(f"--loader {self.loader} is unknown; valid loaders are: {', '.join(LOADERS)}")
        self._check_choices()
        for name in ("batch_size", "ga_steps", "prefetch"):
            if getattr(self, name) < 1:
                raise DataError(f"--{name} is {getattr(self, name)}, expected at least 1")
        if self.num_workers < 0:
            raise DataError(f"--num_workers is {self.num_workers}, expected at least 0")
        if not 0 <= self.oversampling <= 1:
            raise DataError(f"--oversampling is {self.oversampling}, expected a probability")
        if not 0 <= self.seed < 2**63:
            raise DataError(f"--seed is {self.seed}, expected 0 to 2**63 - 1")
        if min(*self.input_shape, *self.val_input_shape) < 1:
            raise DataError("--input_shape and --val_input_shape need positive sizes")
        if min(int(size * (1 - self.overlap)) for size in self.val_input_shape) < 1 or self.overlap < 0:
            raise DataError(
                f"--overlap is {self.overlap}, expected a fraction that leaves windows of "
                f"{self.val_input_shape} a stride of a voxel"
            )
        if not self.timeout > 0:
            raise DataError(f"--loader_timeout is {self.timeout}, expected seconds above 0")

    def _check_choices(self) -> None:
        choices = {
            "image_dtype": ImageDtype, "sharding": Sharding, "data_cache": DataCache,
            "cache_dtype": CacheDtype, "reader": Reader, "dali_device": DaliPlace, "on_bad_case": OnBadCase,
        }  # fmt: skip
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise DataError(f"--{name} {getattr(self, name)} is not one of {', '.join(get_args(kind))}")
        if self.loader != "dali":
            if self.reader != "window":
                raise DataError(f"--reader {self.reader} is one of --loader dali's")
            if self.dali_device != "auto":
                raise DataError(f"--dali_device {self.dali_device} goes with --loader dali")
            if self.data_cache == "device":
                raise DataError("--data_cache device is one of --loader dali's; pytorch takes none or host")
            if self.loader == "synthetic" and self.data_cache != "none":
                raise DataError("--loader synthetic has no data to keep: drop --data_cache")
        if self.data_cache != "none" and self.reader != "window":
            raise DataError(
                f"--reader {self.reader} reads files again each time: use --data_cache none with it"
            )
        if self.on_bad_case == "skip" and self.reader != "window":
            raise DataError(
                f"--on_bad_case skip cannot replace what --reader {self.reader} reads in DALI itself: use "
                "--reader window, or --on_bad_case stop"
            )
        if self.data_cache == "none" and self.cache_dtype != "stored":
            raise DataError("--cache_dtype goes with --data_cache host or device")
