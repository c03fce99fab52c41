"""Make one phantom case: draw its shape, paint it, write it raw or preprocessed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess.anatomy import LARGE, NATURAL, PlaneAndLabel, draw_anatomy, paint
from preprocess.files import NpyStream, file_md5, whole_file
from preprocess.geometry import Shape3, Spacing3, padded_shape, resampled_shape
from preprocess.manifest import CaseRecord
from preprocess.spec import (
    CLIP_MAX_HU,
    CLIP_MIN_HU,
    MEAN_HU,
    MLPERF_STORAGE_DTYPE,
    STDDEV_HU,
    STORAGE_FORMATS,
    TARGET_SPACING_MM,
    StorageDtype,
)
from preprocess.task import image_path, label_path

VERSION = 2
"""Goes up when the same seed gives other voxels."""

TINY_TUMOUR_ID = 1
"""The case whose only tumour is a few voxels wide. It is a training case of the fixed split."""

STORAGE_PROFILE = "mlperf-storage"
"""The profile of cases whose sizes are those of MLPerf Storage's U-Net3D; their noise defies compression."""

_PLANES_PAINTED_AT_ONCE = 4
"""In that profile: painting each one would take a quarter of the time of a case."""

_THICKNESSES_MM = (0.5, 0.75, 1.0, 1.25, 2.0, 2.5, 3.0, 5.0)
_MAX_SLICES = 611
"""The most slices of a KiTS19 case below 210."""


@dataclass(frozen=True)
class PhantomTask:
    """Make case ``case_id`` in ``out``.

    Of preprocessed cases only, ``shape`` overrides the drawn one, ``storage_dtype`` is that of images, and
    ``known`` is the case's entry in the manifest.
    """

    out: Path
    case_id: int
    seed: int
    profile: str
    preprocessed: bool = False
    shape: Shape3 | None = None
    storage_dtype: StorageDtype = MLPERF_STORAGE_DTYPE
    known: CaseRecord | None = None

    @property
    def name(self) -> str:
        """``case_XXXXX``."""
        return f"case_{self.case_id:05d}"


def case_generator(seed: int, case_id: int) -> np.random.Generator:
    """All randomness of one case; depends on nothing but the two numbers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, case_id])))


def draw_raw_geometry(rng: np.random.Generator, profile: str) -> tuple[Shape3, Spacing3]:
    """The raw shape ``(D, H, W)`` and spacing in mm of a case.

    ``tiny``: about 128 voxels along each axis after resampling, from a finer grid: a resampled label lies up
    to one raw voxel beside its image (nearest rounds down, trilinear aligns corners), and a coarse grid would
    make that the hardest part of the task. ``kits19``: 512 x 512 slices of 0.5 to 5 mm; scan length and pixel
    size are drawn so that the preprocessed size has the mean of KiTS19 (29.3 million voxels, the 117 MB of an
    image) and about its spread (68 MB of 146.6 MB per case, as MLPerf Storage records it).
    """
    if profile == "tiny":
        thickness, pixel = float(rng.uniform(1.1, 1.5)), float(rng.uniform(0.85, 1.05))
        wanted = [n * mm for n, mm in zip(rng.integers(120, 137, 3), TARGET_SPACING_MM, strict=True)]
        spacing = (thickness, pixel, pixel)
        d, h, w = (math.ceil(extent / mm) for extent, mm in zip(wanted, spacing, strict=True))
        return (d, h, w), spacing
    pixel = float(rng.uniform(0.7, 0.9))
    length = float(np.clip(402 * np.exp(rng.normal(-0.09, 0.42)), 150, 1200))
    fitting = [mm for mm in _THICKNESSES_MM if length / mm <= _MAX_SLICES]
    thickness = float(rng.choice(fitting))
    return (max(29, round(length / thickness)), 512, 512), (thickness, pixel, pixel)


NOISE_HU = {"tiny": 8.0, "kits19": 20.0}
"""Standard deviation of the noise by profile."""

BUILDS = {"tiny": LARGE, "kits19": NATURAL, STORAGE_PROFILE: NATURAL}
"""Size of the organs by profile: ``tiny`` is to be learnt within minutes."""

PROFILES = tuple(NOISE_HU)


def write_raw(task: PhantomTask) -> None:
    """Write ``imaging.nii.gz`` (int16) and ``segmentation.nii.gz`` (uint8) of one case.

    Each file appears under its name only when it is whole.
    """
    # The door to nibabel stays shut where only preprocessed cases are made.
    from preprocess import nifti

    rng = case_generator(task.seed, task.case_id)
    shape, spacing = draw_raw_geometry(rng, task.profile)
    organs = draw_anatomy(rng, shape, BUILDS[task.profile], task.case_id == TINY_TUMOUR_ID)
    noise = _Noise(rng, NOISE_HU[task.profile], shape)
    folder = task.out / task.name
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.empty(shape[::-1], np.uint8)

    def imaging() -> Iterator[npt.NDArray[np.int16]]:
        for w, (plane, label) in enumerate(paint(organs, shape, (2, 1, 0))):
            labels[w] = label
            yield np.rint(noise.add_to(plane)).astype(np.int16)

    with whole_file(folder / "imaging.nii.gz") as file:
        nifti.write_volume(file, imaging(), shape, spacing, np.int16)
    with whole_file(folder / "segmentation.nii.gz") as file:
        nifti.write_volume(file, labels, shape, spacing, np.uint8)


def is_written(task: PhantomTask) -> bool:
    """Whether both files of a preprocessed case are those that ``task.known`` describes, by their md5."""
    if (known := task.known) is None:
        return False
    paths = image_path(task.out, task.name), label_path(task.out, task.name)
    md5s = known.image_md5, known.label_md5
    return all(path.is_file() and file_md5(path) == md5 for path, md5 in zip(paths, md5s, strict=True))


def write_preprocessed(task: PhantomTask) -> CaseRecord:
    """Write ``case_*_x.npy`` and ``_y.npy`` as preprocessing would leave them, painted at its spacing."""
    rng = case_generator(task.seed, task.case_id)
    raw_shape, spacing = draw_raw_geometry(rng, task.profile)
    shape = task.shape or padded_shape(resampled_shape(raw_shape, spacing))
    total = squares = 0.0
    with (
        whole_file(image_path(task.out, task.name)) as image_file,
        whole_file(label_path(task.out, task.name)) as label_file,
    ):
        images = NpyStream(image_file, (1, *shape), STORAGE_FORMATS[task.storage_dtype])
        labels = NpyStream(label_file, (1, *shape), np.uint8)
        for normal, label in _normalised_planes(task, rng, shape):
            stored = normal.astype(images.dtype, copy=False)
            images.append(stored)
            labels.append(label)
            total += float(stored.sum(dtype=np.float64))
            squares += float(np.square(stored, dtype=np.float32).sum(dtype=np.float64))
    voxels = math.prod(shape)
    mean = total / voxels
    std = float(np.sqrt(max(0.0, squares / voxels - mean * mean)))
    return CaseRecord(shape, TARGET_SPACING_MM, mean, std, images.md5, labels.md5)


def _normalised_planes(task: PhantomTask, rng: np.random.Generator, shape: Shape3) -> Iterator[PlaneAndLabel]:
    """The D planes of a case, normalised as MLPerf does, and their labels."""
    coarse = shape
    if task.profile == STORAGE_PROFILE:
        coarse = (-(-shape[0] // _PLANES_PAINTED_AT_ONCE), *shape[1:])
    organs = draw_anatomy(rng, coarse, BUILDS[task.profile], task.case_id == TINY_TUMOUR_ID)
    planes = paint(organs, coarse, (0, 1, 2))
    if task.profile == STORAGE_PROFILE:
        return islice(_grained(planes, rng), shape[0])
    noise = _Noise(rng, NOISE_HU[task.profile], shape)
    return ((_normalised(noise.add_to(plane)), label) for plane, label in planes)


def _normalised(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (np.clip(plane, CLIP_MIN_HU, CLIP_MAX_HU) - MEAN_HU) / STDDEV_HU


class _Noise:
    """Gaussian noise from a bank that is drawn once and read from a random place for every plane.

    Drawing every voxel anew takes longer than all the rest of a case.
    """

    def __init__(self, rng: np.random.Generator, sigma: float, shape: Shape3) -> None:
        self._rng = rng
        largest_plane = math.prod(shape) // min(shape)
        size = max(2 * largest_plane, min(math.prod(shape), 1 << 21))
        self._bank = rng.standard_normal(size, np.float32) * np.float32(sigma)

    def add_to(self, plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """``plane`` plus noise, in place."""
        start = int(self._rng.integers(self._bank.size - plane.size + 1))
        plane += self._bank[start : start + plane.size].reshape(plane.shape)
        return plane


def _grained(planes: Iterator[PlaneAndLabel], rng: np.random.Generator) -> Iterator[PlaneAndLabel]:
    """Each plane normalised, averaged with uniform noise over the normalised range, and that several times.

    The noise is drawn anew for every voxel: where a file system compresses, voxels that are alike (clipped
    air, a bank of noise that comes again) would leave less to read from the disk than the file's size says.
    """
    # SFC64 takes a third of the time of a case's own Philox.
    fast = np.random.Generator(np.random.SFC64(rng.integers(2**63)))
    half_low, half_width = (
        (CLIP_MIN_HU - MEAN_HU) / STDDEV_HU / 2,
        (CLIP_MAX_HU - CLIP_MIN_HU) / STDDEV_HU / 2,
    )
    for plane, label in planes:
        base = _normalised(plane) / 2 + np.float32(half_low)
        for _ in range(_PLANES_PAINTED_AT_ONCE):
            voxels = fast.random(plane.shape, np.float32)
            voxels *= np.float32(half_width)
            voxels += base
            yield voxels, label
