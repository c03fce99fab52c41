"""What was written into a data folder, from what and how: ``manifest.json``. Needs neither torch nor nibabel.

The manifest is what makes a second run skip what is complete, and what tells real data from phantom data. It
describes files; it is no part of the data set, and nothing in it helps training.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from preprocess import spec
from preprocess.files import whole_file
from preprocess.spec import MLPERF_STORAGE_DTYPE, STORAGE_FORMATS, StorageDtype

MANIFEST_NAME = "manifest.json"

Origin = Literal["kits19", "phantom"]

FORMAT_VERSION = 1
"""Goes up when the same specification is computed in another way, so that old files are converted anew."""


class ManifestError(ValueError):
    """The manifest on disk is not one that this version wrote."""


@dataclass(frozen=True)
class SourceFile:
    """Enough of a raw file to notice a change: size in bytes and modification time in nanoseconds."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "SourceFile":
        """The signature of the file at ``path``; raises OSError when there is none."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class CaseRecord:
    """One converted case.

    ``shape`` is ``(D, H, W)`` of both files (they carry one leading channel axis), ``spacing`` the raw voxel
    spacing in mm. ``mean`` and ``std`` are of the padded image as it is stored (where that is float16, after
    rounding), accumulated in float64. ``imaging`` and ``segmentation`` are the raw files it was made from,
    None where the case was generated directly.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    mean: float
    std: float
    image_md5: str
    label_md5: str
    imaging: SourceFile | None = None
    segmentation: SourceFile | None = None


@dataclass
class Manifest:
    """The records of one data folder, by case name (``case_00000``).

    ``spec`` is the fingerprint of the constants the files were made with, ``origin_detail`` what a generator
    says about itself (seed, profile, version). ``storage_dtype`` holds for every image of the folder; a
    manifest without it is from the time when all were float32.
    """

    origin: Origin
    origin_detail: dict[str, str | int] = field(default_factory=dict)
    spec: str = field(default_factory=lambda: spec_fingerprint())
    storage_dtype: StorageDtype = MLPERF_STORAGE_DTYPE
    cases: dict[str, CaseRecord] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``folder/manifest.json`` so that a reader sees the old or the new one, never a part."""
        body = dataclasses.asdict(self)
        body["cases"] = dict(sorted(body["cases"].items()))
        with whole_file(folder / MANIFEST_NAME) as file:
            file.write(json.dumps(body, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> "Manifest | None":
        """The manifest of ``folder``, or None where there is none.

        Raises:
            ManifestError: the file is damaged or of another version, or names an unknown storage dtype.
        """
        path = folder / MANIFEST_NAME
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["origin"] not in ("kits19", "phantom"):
                raise ValueError(f"unknown origin {body['origin']!r}")
            storage_dtype = body.get("storage_dtype", MLPERF_STORAGE_DTYPE)
            if storage_dtype not in STORAGE_FORMATS:
                raise ValueError(f"unknown storage dtype {storage_dtype!r}")
            cases = {str(name): _record(entry) for name, entry in body["cases"].items()}
            detail = dict(body["origin_detail"])
            return cls(body["origin"], detail, str(body["spec"]), storage_dtype, cases)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ManifestError(f"{path} is damaged or of another version ({error})") from error


def spec_fingerprint() -> str:
    """Sixteen hexadecimal digits that change whenever a constant of the specification does.

    The storage dtype is no part of it: the values are computed alike, and ``Manifest`` names it on its own.
    """
    constants = [
        FORMAT_VERSION,
        spec.TARGET_SPACING_MM,
        (spec.CLIP_MIN_HU, spec.CLIP_MAX_HU, spec.MEAN_HU, spec.STDDEV_HU),
        spec.MIN_SHAPE,
    ]
    return hashlib.sha256(json.dumps(constants).encode()).hexdigest()[:16]


def _record(entry: dict[str, Any]) -> CaseRecord:
    d, h, w = (int(n) for n in entry["shape"])
    sd, sh, sw = (float(mm) for mm in entry["spacing"])
    imaging, segmentation = (
        None if entry[key] is None else SourceFile(**entry[key]) for key in ("imaging", "segmentation")
    )
    return CaseRecord(
        (d, h, w),
        (sd, sh, sw),
        float(entry["mean"]),
        float(entry["std"]),
        str(entry["image_md5"]),
        str(entry["label_md5"]),
        imaging,
        segmentation,
    )
