"""Look at every file of a data set, and read those that are not known yet."""

import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from pipelines.errors import DataError
from preprocess.files import file_md5
from preprocess.machine import usable_cpus
from preprocess.manifest import MANIFEST_NAME, Manifest, ManifestError, spec_fingerprint
from runtime.errors import RunError
from runtime.mounts import Mount, mount_of, read_mounts
from runtime.preflight.stamp import FILE_OF_A_CASE, FileStamp, Stamp, place
from runtime.preflight.voxels import Recorded, measure, objections, shape_of

_LEAST_THREADS = 8
"""Files that are read at once, at least: fast storage has to be asked for several."""


def survey(data_dir: Path, table: Mapping[str, str], known: Mapping[str, FileStamp]) -> Stamp:
    """The stamp of the data set in ``data_dir``; a bar shows how many files are done.

    Args:
        data_dir: Preprocessed cases.
        table: The published md5 of every file, by name.
        known: What an earlier survey found out. A file of the same size and modification time is not read
            again.

    Raises:
        RunError: ``data_dir`` is not a folder that can be listed.
    """
    try:
        present = sorted(entry.name for entry in data_dir.iterdir())
    except OSError as error:
        raise RunError(f"{data_dir} cannot be listed ({error.strerror})") from error
    names = [name for name in present if FILE_OF_A_CASE.fullmatch(name)]
    manifest, fault = _manifest(data_dir)
    print(f"looking at {len(names)} files in {data_dir}", flush=True)
    surveyor = _Surveyor(data_dir, table, known, manifest)
    pool = ThreadPoolExecutor(max(_LEAST_THREADS, 2 * usable_cpus()))
    try:
        stamps = pool.map(surveyor.look, names)
        files = dict(zip(names, tqdm(stamps, total=len(names), unit="file", disable=None), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    mounts = storage_of([data_dir / name for name in names] or [data_dir])
    return Stamp(
        data_dir=place(data_dir),
        origin=manifest.origin if manifest else "unknown",
        preprocessing=fault,
        storage_dtype=manifest.storage_dtype if manifest else "",
        storage=tuple(sorted({str(mount) for mount in mounts})),
        in_memory=tuple(sorted({str(mount) for mount in mounts if mount.in_memory})),
        others=tuple(name for name in present if name not in (*names, MANIFEST_NAME)),
        files=files,
    )


def storage_of(paths: Iterable[Path], system: Path = Path("/")) -> set[Mount]:
    """The mounts that hold files, symbolic links followed; ``system`` is what lies above /proc."""
    mounts = read_mounts(system)
    return {mount for path in paths if (mount := mount_of(path.resolve(), mounts))}


def _manifest(data_dir: Path) -> tuple[Manifest | None, str]:
    """The manifest, and what is wrong with it or with how the cases were made."""
    try:
        manifest = Manifest.load(data_dir)
    except (ManifestError, OSError) as error:
        return None, str(error)
    if manifest and manifest.spec != spec_fingerprint():
        return manifest, "made to another specification"
    return manifest, ""


@dataclass(frozen=True)
class _Surveyor:
    data_dir: Path
    table: Mapping[str, str]
    known: Mapping[str, FileStamp]
    manifest: Manifest | None

    def look(self, name: str) -> FileStamp:
        """One file of a case."""
        path = self.data_dir / name
        try:
            found = self._hashed(path)
        except (OSError, DataError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return FileStamp(size=0, mtime_ns=0, objections=(f"cannot be read ({reason})",))
        if name.endswith("_y.npy") or found.md5 == self.table.get(name):
            return replace(found, voxels=None, objections=())
        return self._judged(path, found)

    def _hashed(self, path: Path) -> FileStamp:
        """As it is known, or read anew."""
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            raise DataError("no regular file")
        known = self.known.get(path.name)
        if known and known.md5 and (known.size, known.mtime_ns) == (before.st_size, before.st_mtime_ns):
            return known
        md5, after = file_md5(path), path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise DataError("it changed meanwhile")
        return FileStamp(size=after.st_size, mtime_ns=after.st_mtime_ns, md5=md5)

    def _judged(self, image: Path, found: FileStamp) -> FileStamp:
        """An image that is not the published file."""
        case = image.name.removesuffix("_x.npy")
        record = self.manifest.cases.get(case) if self.manifest else None
        recorded = Recorded(record.mean, record.std) if record else None
        try:
            voxels = found.voxels or measure(image)
        except DataError as error:
            return replace(found, voxels=None, objections=(str(error).removeprefix(f"{image} "),))
        try:
            shape = shape_of(self.data_dir / f"{case}_y.npy")
        except DataError as error:
            return replace(found, voxels=voxels, objections=(f"cannot be judged by its label ({error})",))
        return replace(found, voxels=voxels, objections=tuple(objections(voxels, shape, recorded)))
