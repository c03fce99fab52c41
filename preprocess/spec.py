"""What MLPerf fixes about the KiTS19 data set, with the source of every number.

All values are those of the MLPerf reference's ``preprocess_dataset.py`` and ``evaluation_cases.txt``
(mlcommons/training, retired_benchmarks/unet3d/pytorch), unless another source is named.
"""

from pathlib import Path
from typing import Literal

MAX_CASE_ID = 210
"""Cases with this id and above have no public segmentation and are skipped."""

TARGET_SPACING_MM = (1.6, 1.2, 1.2)
"""Voxel spacing after resampling, in millimetres, along D, H, W."""

CLIP_MIN_HU = -79.0
CLIP_MAX_HU = 304.0
MEAN_HU = 101.0
STDDEV_HU = 76.9
"""Intensity clip and normalisation, in Hounsfield units.

Normalised values lie between (-79 - 101) / 76.9 = -2.341 and (304 - 101) / 76.9 = 2.640.
"""

StorageDtype = Literal["float32", "float16"]
"""How the voxels of an image lie on the disk; labels are uint8 under both. This choice is not MLPerf's."""

MLPERF_STORAGE_DTYPE: StorageDtype = "float32"
"""What the reference writes, and the only one that the published md5 table knows."""

STORAGE_FORMATS: dict[StorageDtype, str] = {"float32": "<f4", "float16": "<f2"}
"""The numpy dtype of a stored voxel, little-endian whatever the machine.

float16 reaches to 65504, so that no normalised value can overflow. It has 11 significant bits: rounding to
nearest even moves a value by at most 2^-10 (from 2 upwards, where its neighbours are 2^-9 apart), which is
0.075 Hounsfield units.
"""

MIN_SHAPE = (128, 128, 128)
"""Volumes are padded (edge values) to at least this shape, so that a 128^3 patch always fits."""

NUM_CLASSES = 3
"""Background, kidney, tumour."""

TRAIN_SAMPLES = 168
EVAL_SAMPLES = 42
"""The fixed split of the 210 cases (training_rules.adoc of mlcommons/training_policies)."""

EVALUATION_CASES_FILE = Path(__file__).resolve().parent.parent / "evaluation_cases.txt"
"""The ids of the 42 evaluation cases, one of five digits a line."""


def evaluation_ids(path: Path = EVALUATION_CASES_FILE) -> frozenset[int]:
    """The ids of the evaluation cases that ``path`` lists."""
    return frozenset(int(line) for line in path.read_text(encoding="utf-8").split())
