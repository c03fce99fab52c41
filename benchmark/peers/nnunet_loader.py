"""nnU-Net v2: its blosc2 dataset, its data loader, batchgeneratorsv2's transforms, its worker processes.

All of that is its own code, unchanged. What its preprocessor would have written is made once from our
volumes and kept in ``--cache_dir``: compressed blocks and chunks in the sizes of its ``comp_blosc2_params``,
labels as int8, and the ``class_locations`` that its foreground crops are centred on.

Cases are drawn with replacement, as nnU-Net does. 40 % of the patches are centred on a foreground voxel of a
random class (its ``probabilistic_oversampling``, since a fixed part of a small batch cannot be 40 %). Flips,
brightness and noise have the MLPerf reference's distributions; its ``MirrorTransform`` flips with p = 1/2, so
each axis has one that is applied with p = 2/3.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.peers.contender import Contender, Settings, Stream, not_installed
from pipelines.cases import Case

_LABELS = {"background": 0, "kidney": 1, "tumour": 2}
_ENDINGS = (".b2nd", "_seg.b2nd", ".pkl")
"""What nnU-Net keeps of a case; the last is written last, so that its presence says that a case is whole."""


class NnUnet(Contender):
    """Worker processes fill one queue of batches."""

    own_files = True

    def missing(self, settings: Settings) -> str | None:
        """nnU-Net and what its data loader imports."""
        return not_installed("nnunetv2", "batchgenerators", "batchgeneratorsv2", "acvl_utils", "blosc2")

    def prepare(self, settings: Settings) -> None:
        """Convert the cases that are not converted yet."""
        folder = _folder(settings)
        for case in settings.cases():
            if not (folder / f"{_identifier(case)}{_ENDINGS[-1]}").is_file():
                _convert(case, folder, settings.patch)

    def files(self, settings: Settings) -> tuple[Path, ...]:
        """The converted ones."""
        folder = _folder(settings)
        names = [_identifier(case) for case in settings.cases()]
        return tuple(folder / f"{name}{ending}" for name in names for ending in _ENDINGS)

    def start(self, settings: Settings) -> Stream:
        """One pass takes the cases in order, in this process."""
        import torch
        from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
        from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
        from nnunetv2.utilities.label_handling.label_handling import LabelManager

        names = [_identifier(case) for case in settings.cases()]
        patch = (settings.patch,) * 3
        loader = nnUNetDataLoader(
            nnUNetDatasetBlosc2(str(_folder(settings)), names),
            settings.batch_size,
            patch,
            patch,
            LabelManager(_LABELS, None),
            oversample_foreground_percent=settings.oversampling,
            probabilistic_oversampling=True,
            transforms=_transforms(),
        )
        if settings.one_pass:
            return Stream(batches=_one_pass(loader, names, settings.batch_size))
        # As in its trainer, but for the number of processes.
        augmenter = NonDetMultiThreadedAugmenter(
            data_loader=loader,
            transform=None,
            num_processes=settings.workers,
            num_cached=max(6, settings.workers // 2),
            seeds=None,
            pin_memory=torch.cuda.is_available(),
            wait_time=0.002,
        )
        return Stream(batches=_pairs(augmenter))


def _folder(settings: Settings) -> Path:
    return settings.cache_dir / f"nnunet_patch{settings.patch}"


def _identifier(case: Case) -> str:
    """A name that is another one for other content."""
    states = [path.stat() for path in (case.image, case.label)]
    content = repr([(str(case.image.resolve()), state.st_size, state.st_mtime_ns) for state in states])
    return f"{case.name}_{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _convert(case: Case, folder: Path, patch: int) -> None:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    image = np.load(case.image).astype(np.float32, copy=False)
    label = np.load(case.label).astype(np.int8)
    blocks, chunks = comp_blosc2_params(image.shape, (patch,) * 3, image.itemsize)
    blocks_seg, chunks_seg = comp_blosc2_params(label.shape, (patch,) * 3, label.itemsize)
    locations = DefaultPreprocessor._sample_foreground_locations(label, [1, 2])
    part = folder / f".{_identifier(case)}"
    # What an interrupted run has left.
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    nnUNetDatasetBlosc2.save_case(
        image,
        label,
        {"class_locations": locations},
        str(part / "case"),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )
    for ending in _ENDINGS:
        (part / f"case{ending}").replace(folder / f"{_identifier(case)}{ending}")
    part.rmdir()


def _transforms() -> Any:
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    brightness = MultiplicativeBrightnessTransform((1.7, 2.3), synchronize_channels=False)
    noise = GaussianNoiseTransform((0, 0.1))
    return ComposeTransforms(
        [
            *(RandomTransform(MirrorTransform((axis,)), 2 / 3) for axis in range(3)),
            RandomTransform(brightness, 0.1),
            RandomTransform(noise, 0.1),
        ]
    )


def _pairs(batches: Iterator[dict[str, Any]]) -> Iterator[tuple[Any, Any]]:
    return ((batch["data"], batch["target"]) for batch in batches)


def _one_pass(loader: Any, names: list[str], batch_size: int) -> Iterator[tuple[Any, Any]]:
    for first in range(0, len(names), batch_size):
        # The one thing that is not nnU-Net's: it would draw with replacement.
        loader.get_indices = lambda first=first: names[first : first + batch_size]
        batch = next(loader)
        yield batch["data"], batch["target"]
