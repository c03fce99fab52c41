"""The one door to nibabel: read a NIfTI header, stream its planes, write a raw case.

Nothing here holds a whole volume. nibabel reads and writes the header; the voxels are decompressed by isal.
"""

import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import nibabel
import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from preprocess.errors import CaseError
from preprocess.geometry import Shape3, Spacing3
from preprocess.spec import NUM_CLASSES

_CHUNK_BYTES = 4 << 20
_ISAL_ERROR = cast("type[Exception]", isal_zlib.error)
_READ_ERRORS = (EOFError, OSError, zlib.error, _ISAL_ERROR)
_HEADER_ERRORS = (
    ImageFileError, HeaderDataError, WrapStructError, ValueError, KeyError, OverflowError, *_READ_ERRORS,
)  # fmt: skip

_DEFLATES_BEST = 1032
"""Bytes that a byte of a gzip stream stands for at most (zlib's technical details)."""


@dataclass(frozen=True)
class RawVolume:
    """The header of one 3-D NIfTI file.

    ``shape`` is ``(D, H, W)``, ``spacing`` the header's pixdim in mm (float32 widened), ``dtype`` the type on
    disk with its byte order, ``offset`` the first voxel's byte; a voxel's value is ``slope * raw + inter``.
    """

    path: Path
    shape: Shape3
    spacing: Spacing3
    dtype: np.dtype[np.generic]
    offset: int
    slope: float
    inter: float


def read_header(path: Path) -> RawVolume:
    """Read the header of a ``.nii.gz`` file.

    Raises:
        CaseError: missing or unreadable file, not three axes, not real numbers, more voxels than the file can
            hold, or a spacing that is not a positive number.
    """
    if not path.is_file():
        raise CaseError(
            f"{path.name} is missing in {path.parent}; download it again, or remove the case's folder"
        )
    try:
        spacing = _written_spacing(path)
        image = nibabel.load(path)
        if not (isinstance(image, nibabel.Nifti1Image) and isinstance(image.dataobj, ArrayProxy)):
            raise ImageFileError("the file is of another format")
        proxy = image.dataobj
    except _HEADER_ERRORS as error:
        raise CaseError(
            f"{path.name} has no readable NIfTI header ({_brief(error)}); download the file again"
        ) from error
    if len(proxy.shape) != 3 or min(proxy.shape) < 1:
        raise CaseError(
            f"{path.name} has shape {proxy.shape}; expected one 3-D volume (slices, rows, columns)"
        )
    if proxy.dtype.kind not in "iuf":
        raise CaseError(f"{path.name} holds {proxy.dtype} voxels; expected integers or real numbers")
    size = int(proxy.offset) + math.prod(map(int, proxy.shape)) * proxy.dtype.itemsize
    if proxy.offset < 0 or size > _DEFLATES_BEST * path.stat().st_size:
        raise CaseError(
            f"{path.name} claims {proxy.shape} voxels from byte {proxy.offset} on, which a file of "
            f"{path.stat().st_size} bytes cannot hold; download the file again"
        )
    slope, inter = float(proxy.slope), float(proxy.inter)
    depth, height, width = (int(n) for n in proxy.shape)
    return RawVolume(
        path,
        (depth, height, width),
        spacing,
        proxy.dtype,
        proxy.offset,
        slope,
        inter,
    )


def _written_spacing(path: Path) -> Spacing3:
    """The spacing as it is in the file; ``nibabel.load`` would quietly turn -1 into 1 and 0 into 1."""
    with igzip.IGzipFile(path, "rb") as file:
        block = file.read(nibabel.Nifti2Header.sizeof_hdr)
    is_nifti2 = nibabel.Nifti2Header.may_contain_header(block)
    size = nibabel.Nifti1Header.sizeof_hdr
    header = (
        nibabel.Nifti2Header(block, check=False)
        if is_nifti2
        else nibabel.Nifti1Header(block[:size], check=False)
    )
    d, h, w = (float(mm) for mm in header["pixdim"][1:4])
    if not all(0 < mm < np.inf for mm in (d, h, w)):
        raise CaseError(
            f"{path.name} has spacing {(d, h, w)} mm; expected three positive numbers, correct its pixdim"
        )
    return d, h, w


def image_planes(volume: RawVolume) -> Iterator[npt.NDArray[np.float32]]:
    """The planes of constant w as float32 ``(H, D)``, scaled in float64 first as nibabel's ``get_fdata``.

    Every plane is a new array.

    Raises:
        CaseError: truncated or damaged data, or a voxel that is NaN or infinite.
    """
    scaled = (volume.slope, volume.inter) != (1.0, 0.0)
    may_overflow = scaled or volume.dtype.kind == "f"
    for w, raw in enumerate(_raw_planes(volume)):
        if scaled:
            raw = raw.astype(np.float64) * volume.slope + volume.inter
        with np.errstate(over="ignore"):
            plane = (
                raw.astype(np.float64).astype(np.float32)
                if raw.dtype.itemsize >= 8
                else raw.astype(np.float32)
            )
        if may_overflow and not np.isfinite(plane).all():
            raise CaseError(
                f"{volume.path.name} holds NaN or infinite voxels (first in column {w}); "
                "expected Hounsfield units, download the file again"
            )
        yield plane


def label_planes(volume: RawVolume) -> Iterator[npt.NDArray[np.uint8]]:
    """The planes of constant w as uint8 ``(H, D)``; every plane is a new array.

    Raises:
        CaseError: truncated or damaged data, or a value other than 0, 1 and 2.
    """
    scaled = (volume.slope, volume.inter) != (1.0, 0.0)
    for w, raw in enumerate(_raw_planes(volume)):
        if scaled:
            raw = raw.astype(np.float64) * volume.slope + volume.inter
        with np.errstate(invalid="ignore"):
            plane = raw.astype(np.uint8)
        wrong = (plane != raw) | (plane >= NUM_CLASSES)
        if wrong.any():
            raise CaseError(
                f"{volume.path.name} holds the value {raw[wrong][0]} (first in column {w}); "
                "expected 0 (background), 1 (kidney) and 2 (tumour) only"
            )
        yield plane


def _raw_planes(volume: RawVolume) -> Iterator[npt.NDArray[np.generic]]:
    """The planes as they are on disk, ``(H, D)``; a view that lives until the next plane is asked for.

    isal compares the checksum at the end of the stream as soon as the last voxel is out.
    """
    depth, height, width = volume.shape
    plane_bytes = depth * height * volume.dtype.itemsize
    per_chunk = max(1, _CHUNK_BYTES // plane_bytes)
    buffer = bytearray(per_chunk * plane_bytes)
    try:
        with igzip.IGzipFile(volume.path, "rb") as file:
            file.read(volume.offset)
            for start in range(0, width, per_chunk):
                count = min(per_chunk, width - start)
                _fill(file, memoryview(buffer)[: count * plane_bytes])
                yield from np.frombuffer(buffer, volume.dtype, count * depth * height).reshape(
                    count, height, depth
                )
    except _READ_ERRORS as error:
        raise CaseError(
            f"{volume.path.name} is truncated or damaged ({_brief(error)}); "
            f"expected {width * plane_bytes} bytes of voxels, download the file again"
        ) from error


def _fill(file: igzip.IGzipFile, target: memoryview) -> None:
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])
        if not count:
            raise EOFError("the voxels end early")
        done += count


def _brief(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__


def write_volume(
    target: BinaryIO,
    planes: Iterable[npt.NDArray[np.generic]],
    shape: Shape3,
    spacing: Spacing3,
    dtype: npt.DTypeLike,
    affine: npt.NDArray[np.float64] | None = None,
) -> None:
    """Write the ``.nii.gz`` of ``shape`` ``(D, H, W)`` from its ``W`` planes ``(H, D)`` into ``target``.

    The bytes depend on the arguments alone: the gzip header carries neither a time nor a name. ``affine``,
    4 x 4 from voxels to mm, says how the axes lie in the patient.
    """
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(shape)
    header.set_zooms(spacing)
    if affine is not None:
        header.set_sform(affine, code="aligned")
        header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    with igzip.IGzipFile("", "wb", compresslevel=1, fileobj=target, mtime=0) as file:
        file.write(header.binaryblock + bytes(4))
        for plane in planes:
            file.write(np.ascontiguousarray(plane, dtype=dtype).data)


def write_array(target: BinaryIO, voxels: npt.NDArray[np.generic], spacing: Spacing3) -> None:
    """Write the ``.nii.gz`` of a ``(D, H, W)`` array into ``target``.

    Its axes run as those of KiTS19's raw cases, so that a viewer shows it upright: D from head to feet, H
    from front to back, W from the patient's right to the left.
    """
    depth, height, width = spacing
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -depth, -height, -width, 1.0
    d, h, w = voxels.shape
    planes = (voxels[:, :, column].T for column in range(w))
    write_volume(target, planes, (d, h, w), spacing, voxels.dtype, affine)
