"""Convert one case: what a worker process does."""

import errno
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from preprocess import geometry, nifti, volume
from preprocess.errors import CaseError
from preprocess.files import NpyStream, file_md5, whole_file
from preprocess.manifest import CaseRecord, SourceFile
from preprocess.spec import STORAGE_FORMATS
from preprocess.task import CaseOutcome, CaseTask, image_path, label_path

IMAGING = "imaging.nii.gz"
SEGMENTATION = "segmentation.nii.gz"


def convert_case(task: CaseTask) -> CaseOutcome:
    """Convert one case, unless ``task.known`` still describes both the raw files and what was written.

    Raises:
        CaseError: with one sentence for the reader; neither file of the case is left half-written.
    """
    with _as_case_errors(task.results_dir):
        image = nifti.read_header(task.raw_dir / IMAGING)
        label = nifti.read_header(task.raw_dir / SEGMENTATION)
        source = SourceFile.of(image.path), SourceFile.of(label.path)
        if task.known is not None and _is_current(task, task.known, source):
            return CaseOutcome(task.known, kept=True, exact=True)
        if image.shape != label.shape:
            raise CaseError(
                f"{IMAGING} has shape {image.shape} but {SEGMENTATION} {label.shape}; "
                "expected the same, download the case again"
            )
        record = _write(task, image, label, source)
    return CaseOutcome(record, kept=False, exact=volume.rounds_like_interpolate())


def _is_current(task: CaseTask, known: CaseRecord, source: tuple[SourceFile, SourceFile]) -> bool:
    files = (
        (image_path(task.results_dir, task.name), known.image_md5),
        (
            label_path(task.results_dir, task.name),
            known.label_md5,
        ),
    )
    same_source = source == (known.imaging, known.segmentation)
    return same_source and all(path.is_file() and file_md5(path) == md5 for path, md5 in files)


def _write(
    task: CaseTask, image: nifti.RawVolume, label: nifti.RawVolume, source: tuple[SourceFile, SourceFile]
) -> CaseRecord:
    shape = geometry.resampled_shape(image.shape, image.spacing)
    widths = geometry.padding(shape)
    final = geometry.padded_shape(shape)
    # Both names are given at the end, so that a case that fails half-way leaves no label without its image.
    with (
        whole_file(image_path(task.results_dir, task.name)) as image_file,
        whole_file(label_path(task.results_dir, task.name)) as label_file,
    ):
        # The label goes first: it is the quicker one to fail.
        classes = volume.resample_label(nifti.label_planes(label), image.shape, shape)
        labels = NpyStream(label_file, (1, *final), np.uint8)
        labels.append(np.pad(classes, widths, mode="edge"))
        del classes
        slabs = volume.resample_image(nifti.image_planes(image), image.shape, shape)
        images = NpyStream(image_file, (1, *final), STORAGE_FORMATS[task.storage_dtype])
        mean, std = _append_all(images, volume.pad_slabs(map(volume.normalise, slabs), widths))
    return CaseRecord(final, image.spacing, mean, std, images.md5, labels.md5, *source)


def _append_all(stream: NpyStream, slabs: Iterable[npt.NDArray[np.float32]]) -> tuple[float, float]:
    """Append every slab, rounded to nearest even where the file's dtype is narrower than float32.

    Returns:
        The mean and standard deviation of all values as stored, accumulated in float64.
    """
    count, total, squares = 0, 0.0, 0.0
    for slab in slabs:
        stored = slab.astype(stream.dtype, copy=False)
        stream.append(stored)
        values = torch.from_numpy(stored)
        count += slab.size
        total += float(values.sum(dtype=torch.float64))
        squares += float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2
    mean = total / count
    return mean, math.sqrt(max(0.0, squares / count - mean * mean))


@contextmanager
def _as_case_errors(results_dir: Path) -> Iterator[None]:
    """Turn what the machine may refuse into sentences; errors of the program itself pass through."""
    try:
        yield
    except MemoryError as error:
        raise CaseError("not enough memory for this case; run again with fewer --workers") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CaseError(
                f"no space left in {results_dir} ({error.strerror}); free some and run again"
            ) from error
        raise CaseError(f"{error.strerror or error} ({error.filename or results_dir})") from error
