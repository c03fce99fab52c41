"""What an image must look like where its md5 is not the published one.

float32 may differ in the last bits between builds of torch, and the CT of case_00043 differs between
downloads (mlcommons/training issue 545), so that an md5 alone cannot tell a wrong image from a right one.
Nobody has published shape, mean and standard deviation of all 210 images. These stand in for them:

* The shape is that of the case's label, whose own md5 is published.
* Every value lies in the clip range, ends included: [(-79 - 101) / 76.9, (304 - 101) / 76.9]. The lower end
  is reached, since air (-1000 Hounsfield units) and fat (-100) are below -79.
* Mean and standard deviation are those that preprocessing recorded, where this repository's did it.
* Mean and standard deviation are those of a CT of an abdomen. Let a part f of the voxels, 15 to 95 %, be air,
  lung or fat at the lower end, and the others have a mean of 0 to 120 and a spread of 25 to 75 Hounsfield
  units. Then the mean of all is at least 0.95 * -2.34 + 0.05 * -1.31 = -2.29 and at most 0.15 * -2.34 +
  0.85 * 0.25 = -0.14; the variance, (1 - f) s^2 + f (1 - f) (m + 2.34)^2, is between 0.06 and 2.2. The
  published medians over all cases are -1.85 and 0.98 (mlcommons/training issue 618), and the single cases
  printed there have -2.00 to -1.65 and 0.85 to 1.11.

That finds values that are not clipped or normalised, or by other constants, values that are not numbers, an
empty or constant volume, another file type, and a case that was resampled to another shape. It does not find
voxels that were moved or exchanged, an image that was flipped, nor another patient's of the same shape,
unless this repository's preprocessing recorded mean and deviation of the right one.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import DataError
from pipelines.volume_reader import MappedVolume
from preprocess.spec import CLIP_MAX_HU, CLIP_MIN_HU, MEAN_HU, STDDEV_HU

LEAST = (CLIP_MIN_HU - MEAN_HU) / STDDEV_HU
GREATEST = (CLIP_MAX_HU - MEAN_HU) / STDDEV_HU
MEANS = (-2.3, -0.1)
DEVIATIONS = (0.2, 1.5)

ROUNDING = 1e-4
"""Of a normalised value, some hundred times what float32 can lose."""

AGREEMENT = 1e-5
"""Between two sums in float64 over the same file: far more than they can differ by, and far less than any
wrong constant of the preprocessing shifts a mean."""

_CHUNK = 1 << 22
"""Voxels that are looked at together: 32 MiB in float64."""


@dataclass(frozen=True)
class Voxels:
    """Of one image. ``mean`` and ``std`` (of the population) are accumulated in float64."""

    dtype: str
    shape: tuple[int, int, int]
    """D x H x W."""
    least: float
    greatest: float
    mean: float
    std: float

    def __post_init__(self) -> None:
        numbers = (self.least, self.greatest, self.mean, self.std)
        if not all(isinstance(number, float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"{numbers} are not four finite numbers")

    @classmethod
    def of_json(cls, body: dict[str, Any]) -> "Voxels":
        """The inverse of `as_json`; raises ValueError, KeyError or TypeError where it is not one."""
        depth, height, width = (int(size) for size in body["shape"])
        return cls(**(body | {"shape": (depth, height, width)}))

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Recorded:
    """What the manifest says that preprocessing wrote."""

    mean: float
    std: float


def shape_of(label: Path) -> tuple[int, int, int]:
    """D x H x W of a label; raises DataError where it is none."""
    return MappedVolume(label, np.uint8).shape


def measure(image: Path) -> Voxels:
    """Read an image once, in pieces.

    Raises:
        DataError: It is no image, or holds values that are not finite.
    """
    volume = MappedVolume[np.floating[Any]](image, np.float32, np.float16)
    voxels = volume.whole()[0].reshape(-1)
    least, greatest, total, squares = math.inf, -math.inf, 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, voxels.size, _CHUNK):
            piece = voxels[begin : begin + _CHUNK].astype(np.float64)
            least, greatest = min(least, float(piece.min())), max(greatest, float(piece.max()))
            total += float(piece.sum())
            squares += float(piece @ piece)
    if not (math.isfinite(total) and math.isfinite(squares)):
        raise DataError(f"{image} holds values that are not finite numbers: preprocess this case again")
    mean = total / voxels.size
    variance = max(0.0, squares / voxels.size - mean * mean)
    return Voxels(str(volume.dtype), volume.shape, least, greatest, mean, math.sqrt(variance))


def objections(voxels: Voxels, label_shape: tuple[int, int, int], recorded: Recorded | None) -> Iterator[str]:
    """What is wrong with an image that is not the published file."""
    if voxels.shape != label_shape:
        yield f"has shape {_sizes(voxels.shape)}, its label {_sizes(label_shape)}"
    if voxels.dtype != "float32":
        yield f"holds {voxels.dtype}, expected float32"
    if not LEAST - ROUNDING <= voxels.least <= voxels.greatest <= GREATEST + ROUNDING:
        yield (
            f"has values from {voxels.least:.4f} to {voxels.greatest:.4f}, expected {LEAST:.4f} to "
            f"{GREATEST:.4f}"
        )
    elif voxels.least > LEAST + ROUNDING:
        yield f"has no value below {voxels.least:.4f}, expected {LEAST:.4f}, as of air"
    for name, value, bounds in (("mean", voxels.mean, MEANS), ("deviation", voxels.std, DEVIATIONS)):
        if not bounds[0] <= value <= bounds[1]:
            yield f"has {name} {value:.4f}, expected {bounds[0]:g} to {bounds[1]:g}"
    if recorded:
        written = (("mean", voxels.mean, recorded.mean), ("deviation", voxels.std, recorded.std))
        for name, value, expected in written:
            if not abs(value - expected) <= AGREEMENT:
                yield f"has {name} {value:.6f}, was written with {expected:.6f}"


def _sizes(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
