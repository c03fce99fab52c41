"""``python -m benchmark replay``: one augmented training patch exactly as a run was given it, as NIfTI.

The flags are those of the run, and which of its samples. What is written went through the loaders' code.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.base import Position, Shard
from pipelines.cases import cases_of
from pipelines.config import LoaderConfig
from pipelines.dataset import build_samples, schedule, split_cases
from pipelines.draw import Augmentation, CropWindow, Shape
from pipelines.errors import DataError
from pipelines.volumes import FileVolumes, Patch
from preprocess.files import whole_file
from preprocess.flags import positive
from preprocess.spec import TARGET_SPACING_MM
from runtime.arguments import add_run_flags, run_config
from runtime.loader_arguments import number

AXES = "DHW"


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A sample as it was handed to the network."""

    case: str
    """Whose patch it is: under ``--on_bad_case skip`` the one that stands in."""
    skipped: tuple[str, ...]
    """What is wrong with the cases that another one stands in for."""
    shape: Shape
    """D x H x W of the whole volume."""
    window: CropWindow
    augmentation: Augmentation
    image: NDArray[np.float32]
    """D x H x W, rounded as ``--cache_dtype`` and ``--image_dtype`` round."""
    label: NDArray[np.uint8]


class _Rounded(FileVolumes):
    """Cases in their files, rounded as a cache of ``--cache_dtype float16`` rounds them."""

    def patch(self, case: int, window: CropWindow) -> Patch:
        found = super().patch(case, window)
        return found._replace(image=found.image.astype(np.float16))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``main.py``, and which sample."""
    add_run_flags(parser)
    add = parser.add_argument_group("Sample").add_argument
    add("--epoch", type=positive, required=True, help="counted from 1, as logs and messages have it")
    add(
        "--index", type=number(int, 0), required=True,
        help="place in the epoch's order over all ranks, counted from 0",
    )  # fmt: skip
    add(
        "--world_size", type=positive, default=1,
        help="ranks that trained; it decides the case under --sharding static, and how long an epoch is",
    )  # fmt: skip
    add("--out", type=Path, default=Path("replay"), metavar="FOLDER", help="where the two files go (replay)")
    parser.set_defaults(parser=parser)


def run(flags: argparse.Namespace) -> int:
    """Write the patch, and print where it is from and what was done to it.

    Raises:
        DataError: there is no such sample, or its case cannot be read.
        OSError: the files cannot be written.
    """
    if flags.seed < 0:
        flags.parser.error("--seed: expected the seed of the run, which its log has")
    config = run_config(flags.parser, flags).loader
    if config.loader == "synthetic":
        flags.parser.error(
            "--loader synthetic has one random batch and no patches of cases: nothing to replay"
        )
    try:
        from preprocess.nifti import write_array
    except ImportError as error:
        raise DataError(
            "replay writes NIfTI by nibabel, which is not installed: pip install nibabel"
        ) from error
    found = replay(config, flags.world_size, flags.epoch, flags.index)
    name = f"{found.case}_seed{config.seed}_epoch{flags.epoch}_index{flags.index}"
    print(*_lines(found, config.loader), sep="\n")
    for kind, voxels in (("image", found.image), ("label", found.label)):
        path = flags.out / f"{name}_{kind}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            write_array(file, voxels, TARGET_SPACING_MM)
        print(f"{kind}: {path}")
    return 0


def replay(config: LoaderConfig, world_size: int, epoch: int, index: int) -> Replayed:
    """The sample at place ``index`` of the global order of ``epoch``.

    Only the files of its case are opened, as far as no other case may stand in for it.

    Raises:
        DataError: the epoch has no such place, or the case cannot be read.
    """
    shard, case = _scheduled(config, world_size, epoch, index)
    training = split_cases(config)[0]
    own = cases_of(shard, len(training), config.seed, config.sharding)
    cases, place = training, case
    if config.on_bad_case == "stop":
        # Draws depend on the place in the epoch, and on no number of a case.
        cases, place = training[case : case + 1], 0
        shard, config = Shard(), replace(config, sharding="global")
    volumes = _Rounded if config.cache_dtype == "float16" else FileVolumes
    files = volumes(cases, config.on_bad_case)
    samples = build_samples(replace(config, data_cache="none", cache_dtype="stored"), shard, cases, files)
    image, label = np.empty(config.input_shape, np.float32), np.empty(config.input_shape, np.uint8)
    met = samples.write(epoch, index, place, image, label).met
    used = own[(own.index(case) + len(met)) % len(own)] if met else place
    window, augmentation, _ = samples.draw(epoch, index, used)
    dtype: torch.dtype = getattr(torch, config.image_dtype)
    return Replayed(
        case=cases[used].name,
        skipped=tuple(f"{bad.case} is bad: {bad.reason}" for bad in met),
        shape=files.shape(used),
        window=window,
        augmentation=augmentation,
        image=torch.from_numpy(image).to(dtype).float().numpy(),
        label=label,
    )


def _scheduled(config: LoaderConfig, world_size: int, epoch: int, index: int) -> tuple[Shard, int]:
    """Which rank is given the sample, and the number of its case.

    Raises:
        DataError: the epoch has no such place.
    """
    steps = schedule(config, Shard(0, world_size))
    if index >= steps.samples_per_epoch:
        raise DataError(
            f"--index {index} is not in an epoch of {steps.samples_per_epoch} samples ({steps.num_cases} "
            f"cases, {world_size} ranks x --batch_size {config.batch_size} x --ga_steps {config.ga_steps}, "
            f"--last_batch {config.last_batch}): expected at most {steps.samples_per_epoch - 1}"
        )
    batch, place = divmod(index, config.batch_size)
    step, rank = divmod(batch, world_size)
    own = replace(steps, shard=Shard(rank, world_size))
    return own.shard, next(own.steps(Position(epoch, step))).cases[place]


def _lines(found: Replayed, loader: str) -> list[str]:
    """What was done, a line each."""
    start, shape = found.window
    places = ", ".join(f"{axis} {a}:{a + n}" for axis, a, n in zip(AXES, start, shape, strict=True))
    flips, brightness, sigma, _ = found.augmentation
    flipped = ", ".join(axis for axis, flip in zip(AXES, flips, strict=True) if flip)
    noise = f"sigma {sigma:.6f}" if sigma else "none"
    if sigma and loader == "dali":
        noise += " (where DALI augments on the GPU its own generator draws other values)"
    counts: Any = np.bincount(found.label.ravel(), minlength=3)
    return [
        *found.skipped,
        f"case: {found.case}",
        f"window: {places}, of a volume of {' x '.join(map(str, found.shape))}",
        f"flips: {flipped or 'none'}",
        f"brightness: {f'factor {brightness:.6f}' if brightness != 1.0 else 'none'}",
        f"noise: {noise}",
        f"values: {found.image.min():.4f} to {found.image.max():.4f}; "
        f"kidney {counts[1]} voxels, tumour {counts[2]}",
    ]
