"""Raw cases made of formulas."""

import gzip
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (12, 40, 36)
SPACING = (3.0, 0.8, 0.8)


def formula_image(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """int16 voxels that cross both clip bounds."""
    return np.round(400 * np.sin(0.37 * np.arange(np.prod(shape))) + 50).astype(np.int16).reshape(shape)


def formula_label(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """uint8 labels 0, 1, 2 in runs of seven."""
    return (np.arange(np.prod(shape)) // 7 % 3).astype(np.uint8).reshape(shape)


def write_nifti(
    path: Path,
    voxels: np.ndarray,
    spacing: tuple[float, ...] = SPACING,
    scaling: tuple[float, float] | None = None,
) -> None:
    """Write raw voxels as they are, byte order included, with nibabel's own writer."""
    order = ">" if voxels.dtype.byteorder == ">" else "<"
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(voxels.dtype)
    image = nibabel.Nifti1Image(voxels, np.eye(4), header)
    image.header["pixdim"][1:4] = spacing
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    if scaling:
        # nibabel would rescale the voxels to fit, so the header's two fields are set in the finished file.
        body = bytearray(gzip.decompress(path.read_bytes()))
        body[112:120] = np.array(scaling, f"{order}f4").tobytes()
        path.write_bytes(gzip.compress(bytes(body)))


def write_case(raw: Path, case_id: int) -> Path:
    """A good case; each id has its own voxels."""
    folder = raw / f"case_{case_id:05d}"
    write_nifti(folder / "imaging.nii.gz", formula_image() + np.int16(case_id))
    write_nifti(folder / "segmentation.nii.gz", formula_label())
    return folder
