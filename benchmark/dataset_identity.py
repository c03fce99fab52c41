"""Which data a number was measured on: how much, how stored, and a hash that tells data sets apart."""

import hashlib
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.environment import describe_storage
from pipelines.cases import Case, find_cases, split
from pipelines.errors import DataError
from preprocess.files import npy_descr
from preprocess.manifest import Manifest, ManifestError
from preprocess.spec import evaluation_ids

MEMORY_MULTIPLE = 5
"""A data set below this many times the memory may stay in the page cache: MLPerf Storage's rule for training
(its Submission_guidelines.md, HOST_MEMORY_MULTIPLIER)."""

_END_BYTES = 64 << 10


def describe_dataset(data_dir: Path, evaluation_cases: Path) -> dict[str, Any]:
    """The data set in ``data_dir``, as plain values for a record.

    ``bytes`` is of all images and labels, ``training_bytes`` of what training reads; ``sample_bytes_mean``
    and ``sample_bytes_stdev`` (of the population) are of image and label together, over all cases.
    ``at_least_5x_memory`` compares ``training_bytes`` with the memory of this machine.

    ``sha256`` is of one line for each file, sorted by name: name, size and digest. The digest is the md5 that
    the manifest has of the file, as it was written; where it has none, the sha256 of the first and last
    64 KiB of the file, which sees no change in between. ``sha256_of`` says which of the two there are: hashes
    of different kinds do not compare.

    Args:
        data_dir: Preprocessed cases.
        evaluation_cases: The file that lists the ids of the evaluation cases.

    Raises:
        DataError: there are no cases, one lacks a file, an image is no .npy file, or the manifest is damaged.
        OSError: a file cannot be read.
    """
    cases = find_cases(data_dir)
    training, evaluation = split(cases, evaluation_ids(evaluation_cases))
    sizes = {case.name: case.image.stat().st_size + case.label.stat().st_size for case in cases}
    training_bytes = sum(sizes[case.name] for case in training)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    sha256, kind = _identity(data_dir, cases)
    return {
        "training_cases": len(training),
        "evaluation_cases": len(evaluation),
        "bytes": sum(sizes.values()),
        "training_bytes": training_bytes,
        "sample_bytes_mean": statistics.fmean(sizes.values()),
        "sample_bytes_stdev": statistics.pstdev(sizes.values()),
        "image_dtype": ", ".join(sorted({_dtype(case.image) for case in cases})),
        "sha256": sha256,
        "sha256_of": kind,
        "memory_bytes": memory,
        "at_least_5x_memory": training_bytes >= MEMORY_MULTIPLE * memory,
    }


def data_of(data_dir: Path, evaluation_cases: Path) -> dict[str, Any]:
    """``dataset`` and ``storage`` for a record, see `describe_dataset` and `environment.describe_storage`.

    Raises:
        DataError, OSError: as they do.
    """
    return {"dataset": describe_dataset(data_dir, evaluation_cases), "storage": describe_storage(data_dir)}


def _identity(data_dir: Path, cases: Iterable[Case]) -> tuple[str, str]:
    """The hash of all files, and what it is made of."""
    known = _written_md5s(data_dir)
    files = sorted((path.name, path) for case in cases for path in (case.image, case.label))
    lines = [f"{name} {path.stat().st_size} {known.get(name) or _ends(path)}\n" for name, path in files]
    by_manifest = sum(name in known for name, _ in files)
    kind = "name, size, md5 by the manifest"
    if by_manifest < len(files):
        kind = "name, size, sha256 of the first and last 64 KiB"
        if by_manifest:
            kind += f"; of {by_manifest} of {len(files)} files md5 by the manifest"
    return hashlib.sha256("".join(lines).encode()).hexdigest(), kind


def _written_md5s(data_dir: Path) -> dict[str, str]:
    try:
        manifest = Manifest.load(data_dir)
    except ManifestError as error:
        raise DataError(f"{error}: preprocess again, or remove it") from error
    cases = manifest.cases if manifest else {}
    return {f"{name}_x.npy": case.image_md5 for name, case in cases.items()} | {
        f"{name}_y.npy": case.label_md5 for name, case in cases.items()
    }


def _ends(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_END_BYTES)
        file.seek(max(file.tell(), path.stat().st_size - _END_BYTES))
        content += file.read(_END_BYTES)
    return hashlib.sha256(content).hexdigest()


def _dtype(image: Path) -> str:
    descr = npy_descr(image)
    if descr is None:
        raise DataError(f"{image} is not a .npy file: preprocess the case again")
    try:
        return np.dtype(descr).name
    except TypeError as error:
        raise DataError(f"{image} names {descr}, which is no dtype: preprocess the case again") from error
