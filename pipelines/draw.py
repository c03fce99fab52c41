"""All the randomness of the data pipeline: (seed, epoch, sample) -> crop window, augmentation.

Counter-based: a Philox 4x64 generator (Salmon et al., 2011) is keyed by the seed, and its counter holds
the epoch, the sample and the purpose. Nothing is carried from one sample to the next, so a sample comes
out the same whatever the number of workers and ranks, and after a restart. Only ``random_raw`` is used,
which numpy keeps stable between versions.

The distributions are those of the MLPerf reference (``RandBalancedCrop``, ``RandFlip``,
``RandomBrightnessAugmentation``, ``GaussianNoise`` of its ``data_loading/pytorch_loader.py``), quirks
included: see ``DrawConfig`` and ``_offset``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import CaseError, DataError

_T = TypeVar("_T")

Shape = tuple[int, int, int]
"""D x H x W, in voxels."""

Brightness = Literal["reference", "nvidia"]
"""Factor 1 + U(0.7, 1.3), as the reference's code has it, or U(0.7, 1.3), as NVIDIA's DALI pipeline."""


class Stream(IntEnum):
    """What random bits are for: streams share no counter value."""

    ORDER = 0
    SAMPLE = 1
    NOISE = 2


class Slot(IntEnum):
    """The random word behind each decision about a sample.

    Every decision owns its word whether it is taken or not, so none depends on another's outcome.
    """

    BIASED = 0
    CLASS = 1
    BOX = 2
    OFFSET_D = 3
    OFFSET_H = 4
    OFFSET_W = 5
    FLIP_D = 6
    FLIP_H = 7
    FLIP_W = 8
    BRIGHTNESS = 9
    BRIGHTNESS_FACTOR = 10
    NOISE = 11
    NOISE_SIGMA = 12
    NOISE_SEED = 13


_OFFSETS = (Slot.OFFSET_D, Slot.OFFSET_H, Slot.OFFSET_W)


class Box(NamedTuple):
    """Bounding box of a foreground component, in voxels; ``stop`` is exclusive."""

    start: Shape
    stop: Shape


Boxes = tuple[tuple[Box, ...], ...]
"""For each foreground class present in a case, ascending: its (at most two) largest components."""


class CropWindow(NamedTuple):
    """The part of a volume that becomes a patch."""

    start: Shape
    shape: Shape


class Augmentation(NamedTuple):
    """What happens to a patch after the crop, in this order."""

    flips: tuple[bool, bool, bool]
    """Which of D, H, W are mirrored."""
    brightness: float
    """Factor on the image; 1.0 is none."""
    noise_sigma: float
    """Standard deviation of the added gaussian noise, in units of the normalised image; 0.0 is none."""
    noise_seed: int
    """64 bits that the noise values come from."""


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """Probabilities and ranges; the defaults are the reference's.

    Its brightness code multiplies by ``1 + factor`` with a factor that is already around one: 1.7 to 2.3.
    The reference convergence points were recorded with that, so it is the default here.
    """

    patch_shape: Shape = (128, 128, 128)
    oversampling: float = 0.4
    flip_probability: float = 1 / 3
    brightness: Brightness = "reference"
    brightness_probability: float = 0.1
    noise_probability: float = 0.1
    noise_sigma_max: float = 0.1

    def __post_init__(self) -> None:
        if self.brightness not in get_args(Brightness):
            raise DataError(f"--brightness {self.brightness} is not one of {', '.join(get_args(Brightness))}")


def random_bits(seed: int, epoch: int, stream: Stream, sample: int, count: int) -> NDArray[np.uint64]:
    """``count`` independent uniform 64-bit words; ``seed``, ``epoch`` and ``sample`` in [0, 2**64)."""
    return np.random.Philox(key=[seed, 0], counter=[0, stream, sample, epoch]).random_raw(count)


def draw(
    config: DrawConfig,
    *,
    seed: int,
    epoch: int,
    sample: int,
    volume_shape: Shape,
    boxes: Callable[[], Boxes],
) -> tuple[CropWindow, Augmentation]:
    """What happens to the sample at place ``sample`` in the global order of ``epoch``.

    ``boxes`` is called only where the crop is drawn to be foreground-biased. A case without foreground is
    then cropped without bias (the reference would fail on it). Raises CaseError if the patch does not fit.
    """
    check_fit(config.patch_shape, volume_shape)
    words = random_bits(seed, epoch, Stream.SAMPLE, sample, len(Slot))
    # The upper 53 bits, as numpy's own doubles in [0, 1).
    u = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    present = boxes() if u[Slot.BIASED] < config.oversampling else ()
    if present:
        candidates = _choose(present, u[Slot.CLASS])
        start = _biased_start(_choose(candidates, u[Slot.BOX]), config.patch_shape, volume_shape, u)
    else:
        ranges = [s - p for s, p in zip(volume_shape, config.patch_shape, strict=True)]
        start = _shape(_offset(r, u[slot]) for r, slot in zip(ranges, _OFFSETS, strict=True))
    return CropWindow(start, config.patch_shape), _augmentation(config, u, int(words[Slot.NOISE_SEED]))


def noise_key(seed: int, epoch: int) -> int:
    """64 bits for a device's own generator of normals, which counts the samples of an epoch itself."""
    return int(random_bits(seed, epoch, Stream.NOISE, 0, 1)[0])


def check_fit(patch_shape: Shape, volume_shape: Shape) -> None:
    """Raise CaseError if a patch is larger than the volume along an axis."""
    if any(p > s for p, s in zip(patch_shape, volume_shape, strict=True)):
        raise CaseError(
            f"a patch of {patch_shape} voxels does not fit a volume of {volume_shape}: "
            "lower --input_shape, or preprocess the case again (it pads to at least 128^3)"
        )


def _shape(values: Iterable[int]) -> Shape:
    d, h, w = values
    return d, h, w


def _choose(items: Sequence[_T], u: float) -> _T:
    return items[int(u * len(items))]


def _offset(limit: int, u: float) -> int:
    """Python's ``randrange(limit)`` from a uniform number, and 0 where ``limit`` is 0.

    The reference draws offsets from ``randrange(volume - patch)``, whose end is exclusive: the last
    window that would fit is never drawn. Kept, since the reference's convergence points have it.
    """
    return int(u * limit)


def _biased_start(box: Box, patch: Shape, volume: Shape, u: NDArray[np.float64]) -> Shape:
    """Start of a patch that contains ``box``, or lies inside it along axes where the box is longer."""
    starts = []
    for axis, slot in enumerate(_OFFSETS):
        slack = patch[axis] - (box.stop[axis] - box.start[axis])
        before = _offset(abs(slack), u[slot])
        start = box.start[axis] - before if slack > 0 else box.start[axis] + before
        # The reference clips the window to the volume and then shifts it until it is whole again, so
        # windows at the border are drawn more often.
        starts.append(min(max(start, 0), volume[axis] - patch[axis]))
    return _shape(starts)


def _augmentation(config: DrawConfig, u: NDArray[np.float64], noise_seed: int) -> Augmentation:
    d, h, w = (bool(u[slot] < config.flip_probability) for slot in (Slot.FLIP_D, Slot.FLIP_H, Slot.FLIP_W))
    brightness, sigma = 1.0, 0.0
    if u[Slot.BRIGHTNESS] < config.brightness_probability:
        factor = 0.7 + 0.6 * float(u[Slot.BRIGHTNESS_FACTOR])
        brightness = 1.0 + factor if config.brightness == "reference" else factor
    if u[Slot.NOISE] < config.noise_probability:
        sigma = config.noise_sigma_max * float(u[Slot.NOISE_SIGMA])
    return Augmentation((d, h, w), brightness, sigma, noise_seed)
