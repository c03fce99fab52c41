"""Which phantom cases there are, and how large those are that measure storage. Needs numpy only."""

import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from preprocess.errors import UsageError
from preprocess.geometry import Shape3
from preprocess.spec import (
    EVAL_SAMPLES,
    MAX_CASE_ID,
    MIN_SHAPE,
    MLPERF_STORAGE_DTYPE,
    STORAGE_FORMATS,
    TRAIN_SAMPLES,
    StorageDtype,
    evaluation_ids,
)
from preprocess.task import image_path, label_path

MOST_CASES = 100_000
"""Five digits name a case (``case_00000``)."""

SAMPLE_BYTES = 146_600_628
SAMPLE_BYTES_STDDEV = 68_341_808
"""Mean and standard deviation of a sample (a float32 image and its uint8 label) on the disk:
``record_length_bytes`` and ``_stdev`` of mlcommons/storage, configs/dlio/workload/unet3d_*.yaml."""


def phantom_ids(cases: int) -> list[int]:
    """The ids of ``cases`` phantoms, sorted: the first training and evaluation ids of the fixed split.

    One fifth, at least one, are evaluation cases; 210 cases give every id. Case 1 is always among them.

    Raises:
        UsageError: fewer than 2 or more than 210 cases.
    """
    if not 2 <= cases <= MAX_CASE_ID:
        raise UsageError(
            f"{cases} cases asked for; expected 2 (one to train, one to evaluate) to {MAX_CASE_ID}"
        )
    evaluation = sorted(evaluation_ids())
    training = sorted(set(range(MAX_CASE_ID)) - set(evaluation))
    share = max(1, round(cases * EVAL_SAMPLES / (EVAL_SAMPLES + TRAIN_SAMPLES)))
    return sorted(evaluation[:share] + training[: cases - share])


def draw_storage_shape(seed: int, case_id: int) -> Shape3:
    """The shape of a case whose float32 pair has a size of MLPerf Storage's distribution.

    The size is normal but never below 128^3 x 5 bytes, the smallest pair; that raises its mean by 0.4 %.
    """
    # A stream of its own: what is painted does not depend on how a shape came about.
    stream = np.random.SeedSequence([seed, case_id], spawn_key=(1,))
    size = np.random.default_rng(stream).normal(SAMPLE_BYTES, SAMPLE_BYTES_STDDEV)
    return cubic_shape(float(size) / pair_bytes((1, 1, 1), MLPERF_STORAGE_DTYPE))


def cubic_shape(voxels: float) -> Shape3:
    """A nearly cubic ``(D, H, W)`` of ``voxels`` voxels, give or take D x H / 2; no axis is below 128."""
    voxels = max(voxels, math.prod(MIN_SHAPE))
    d = max(MIN_SHAPE[0], round(voxels ** (1 / 3)))
    h = max(MIN_SHAPE[1], round(math.sqrt(voxels / d)))
    return d, h, max(MIN_SHAPE[2], round(voxels / (d * h)))


def pair_bytes(shape: Shape3, storage_dtype: StorageDtype) -> int:
    """Bytes of an image and its label without their headers (128 bytes each)."""
    return math.prod(shape) * (np.dtype(STORAGE_FORMATS[storage_dtype]).itemsize + 1)


def storage_shapes(total: float, seed: int, storage_dtype: StorageDtype) -> dict[int, Shape3]:
    """The cases, by id, of a data set of ``total`` bytes with samples of MLPerf Storage's sizes.

    Every case has the voxels that its float32 pair would have; the last is cut where the sum would miss
    ``total`` by more than half a mean sample. Ids from 210 up are all training cases: the evaluation split is
    fixed.

    Raises:
        UsageError: this makes fewer than two cases, or more than ids of five digits can name.
    """
    voxel = pair_bytes((1, 1, 1), storage_dtype)
    half = SAMPLE_BYTES / pair_bytes((1, 1, 1), MLPERF_STORAGE_DTYPE) * voxel / 2
    shapes: dict[int, Shape3] = {}
    left = total
    for case_id in _ids_by_number_of_cases():
        shape = draw_storage_shape(seed, case_id)
        if left - pair_bytes(shape, storage_dtype) < -half:
            shape = cubic_shape(left / voxel)
        shapes[case_id] = shape
        left -= pair_bytes(shape, storage_dtype)
        if left <= half:
            break
    if len(shapes) < 2 or left > half:
        raise UsageError(
            f"--total_gb {total / 1e9:g} does not make 2 (one to train, one to evaluate) to {MOST_CASES} "
            f"cases of about {2 * half / 1e9:.3f} GB; give {'more' if len(shapes) < 2 else 'less'}"
        )
    return dict(sorted(shapes.items()))


def _ids_by_number_of_cases() -> Iterator[int]:
    """Ids in the order in which more cases bring them: ``phantom_ids``, then those beyond KiTS19's."""
    yield from phantom_ids(2)
    for cases in range(3, MAX_CASE_ID + 1):
        yield from set(phantom_ids(cases)) - set(phantom_ids(cases - 1))
    yield from range(MAX_CASE_ID, MOST_CASES)


def check_space(out: Path, shapes: Mapping[int, Shape3], storage_dtype: StorageDtype) -> None:
    """Refuse to start where the disk has no room for those cases that are not in ``out`` yet.

    Raises:
        UsageError: with what is missing and what is free.
    """
    folder = next(path for path in (out, *out.absolute().parents) if path.exists())
    needed = sum(pair_bytes(shape, storage_dtype) for shape in shapes.values())
    names = [f"case_{case_id:05d}" for case_id in shapes]
    files = (path(out, name) for name in names for path in (image_path, label_path))
    needed -= sum(file.stat().st_size for file in files if file.is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"{out} needs {needed / 1e9:.1f} GB more, but {free / 1e9:.1f} GB are free there; free some, "
            "lower --total_gb or give another --out"
        )
