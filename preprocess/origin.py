"""What a data folder holds, so that unlike cases do not mix: where they come from, and how images are stored.

Cases are real data, or from the phantom generator, which leaves a marker beside its raw cases.
"""

import json
from pathlib import Path

from preprocess.errors import UsageError
from preprocess.files import npy_descr, whole_file
from preprocess.manifest import Manifest, ManifestError, Origin, spec_fingerprint
from preprocess.spec import MLPERF_STORAGE_DTYPE, STORAGE_FORMATS, StorageDtype

PHANTOM_MARKER = "phantom.json"
"""A raw folder that holds this file was made by ``preprocess.phantom``; it holds the origin's detail."""

Detail = dict[str, str | int]


def read_origin(raw_dir: Path) -> tuple[Origin, Detail]:
    """The origin of the raw cases in ``raw_dir``, with what the generator says about itself.

    Raises:
        UsageError: the marker is damaged.
    """
    marker = raw_dir / PHANTOM_MARKER
    if not marker.is_file():
        return "kits19", {}
    try:
        return "phantom", dict(json.loads(marker.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{marker} is damaged ({error}); make the phantom again") from error


def mark_phantom(raw_dir: Path, detail: Detail) -> None:
    """Leave the marker in ``raw_dir``."""
    with whole_file(raw_dir / PHANTOM_MARKER) as file:
        file.write(json.dumps(detail).encode())


def describe(origin: Origin, detail: Detail) -> str:
    """The origin in words."""
    return " ".join([origin, *(f"{key}={value}" for key, value in detail.items())])


def storage_note(storage_dtype: StorageDtype) -> str:
    """One line that says so where images are not stored as MLPerf prescribes, otherwise nothing."""
    if storage_dtype == MLPERF_STORAGE_DTYPE:
        return ""
    return (
        f"note: images are stored as {storage_dtype}: half the size, but not the {MLPERF_STORAGE_DTYPE} "
        "files that MLPerf prescribes"
    )


def open_manifest(
    folder: Path, origin: Origin, detail: Detail, storage_dtype: StorageDtype
) -> tuple[Manifest, str]:
    """The manifest of ``folder`` to add cases to, and a note for the reader where records were dropped.

    Raises:
        UsageError: the folder holds cases of another origin, or images stored in another dtype.
    """
    fresh = Manifest(origin, detail, storage_dtype=storage_dtype)
    note = ""
    try:
        found = Manifest.load(folder)
    except ManifestError as error:
        found, note = None, f"note: {error}; every case is made again"
    if found is None or not found.cases:
        _refuse_other_images(folder, _stored_dtypes(folder), storage_dtype)
        return fresh, note
    if (found.origin, found.origin_detail) != (origin, detail):
        raise UsageError(
            f"{folder} holds cases from {describe(found.origin, found.origin_detail)}, not from "
            f"{describe(origin, detail)}; give another folder, or empty this one"
        )
    _refuse_other_images(folder, {found.storage_dtype}, storage_dtype)
    if found.spec != spec_fingerprint():
        return fresh, "note: the cases here were made to another specification; every case is made again"
    return found, ""


def _stored_dtypes(folder: Path) -> set[StorageDtype]:
    """How the images in ``folder`` are stored, by their own headers.

    For folders without records: a run that is killed early leaves none, and the reference writes none.
    """
    found = {npy_descr(path) for path in folder.glob("case_*_x.npy")}
    return {name for name, voxel in STORAGE_FORMATS.items() if voxel in found}


def _refuse_other_images(folder: Path, held: set[StorageDtype], asked: StorageDtype) -> None:
    for other in sorted(held - {asked}):
        raise UsageError(
            f"{folder} holds images stored as {other}, but {asked} was asked for; give another folder, empty "
            f"this one, or add to it with --storage_dtype {other}"
        )
