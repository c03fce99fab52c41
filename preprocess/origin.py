"""Where cases come from: real data, or the phantom generator, which leaves a marker beside its raw cases."""

import json
from pathlib import Path

from preprocess.errors import UsageError
from preprocess.files import whole_file
from preprocess.manifest import Manifest, ManifestError, Origin, spec_fingerprint

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
    except (ValueError, TypeError) as error:
        raise UsageError(f"{marker} is damaged ({error}); make the phantom again") from error


def mark_phantom(raw_dir: Path, detail: Detail) -> None:
    """Leave the marker in ``raw_dir``."""
    with whole_file(raw_dir / PHANTOM_MARKER) as file:
        file.write(json.dumps(detail).encode())


def describe(origin: Origin, detail: Detail) -> str:
    """The origin in words."""
    return " ".join([origin, *(f"{key}={value}" for key, value in detail.items())])


def open_manifest(folder: Path, origin: Origin, detail: Detail) -> tuple[Manifest, str]:
    """The manifest of ``folder`` to add cases to, and a note for the reader where records were dropped.

    Raises:
        UsageError: the folder holds cases of another origin.
    """
    fresh = Manifest(origin, detail)
    try:
        found = Manifest.load(folder)
    except ManifestError as error:
        return fresh, f"note: {error}; every case is made again"
    if found is None or not found.cases:
        return fresh, ""
    if (found.origin, found.origin_detail) != (origin, detail):
        raise UsageError(
            f"{folder} holds cases from {describe(found.origin, found.origin_detail)}, not from "
            f"{describe(origin, detail)}; give another folder, or empty this one"
        )
    if found.spec != spec_fingerprint():
        return fresh, "note: the cases here were made to another specification; every case is made again"
    return found, ""
