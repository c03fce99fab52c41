"""MONAI: its dictionary transforms behind its ``Dataset`` or ``CacheDataset``.

The transforms draw from the distributions of the MLPerf reference: a flip of each axis with p = 1/3,
brightness x (1 + U(0.7, 1.3)) with p = 0.1, noise of sigma U(0, 0.1) with p = 0.1. The crop is MONAI's: 40 %
of the patches are centred on a foreground voxel, the others on a background voxel.

All variants have no metadata on their tensors and workers that live through all epochs. The cache has
MONAI's defaults, as its tutorials use it: a cached volume is copied before it is cropped, and the crop looks
for the foreground of the whole label each time. Tuned is what an expert makes of it: ``copy_cache=False`` (no
transform here writes to a cached volume), and the foreground and background voxels of every label listed once
and cached with it, at 8 bytes for each voxel.
"""

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import numpy as np

from benchmark.peers.contender import Contender, Settings, Stream, not_installed
from preprocess.spec import TRAIN_SAMPLES

_KEYS = ("image", "label")


class Monai(Contender):
    """Plain, with all volumes in memory, or with a cache that is tuned."""

    def __init__(self, *, cached: bool, tuned: bool = False) -> None:
        self.keeps_volumes, self._tuned = cached, tuned

    def missing(self, settings: Settings) -> str | None:
        """MONAI."""
        return not_installed("monai")

    def start(self, settings: Settings) -> Stream:
        """The cases are repeated to the size of the real training set, as for the reference; the cache holds
        each once."""
        import torch
        from monai.data import CacheDataset, DataLoader, Dataset, set_track_meta

        set_track_meta(False)
        cases = [{"image": str(case.image), "label": str(case.label)} for case in settings.cases()]
        if not settings.one_pass:
            cases = list(islice(cycle(cases), max(TRAIN_SAMPLES, len(cases))))
        transform = self._transform(settings)
        dataset = (
            CacheDataset(
                cases,
                transform,
                num_workers=settings.workers,
                progress=False,
                copy_cache=not self._tuned,
                hash_as_key=True,
            )
            if self.keeps_volumes
            else Dataset(cases, transform)
        )
        loader = DataLoader(
            dataset,
            batch_size=settings.batch_size,
            shuffle=True,
            num_workers=settings.workers,
            pin_memory=torch.cuda.is_available(),
            drop_last=True,
            persistent_workers=True,
            multiprocessing_context="fork",
        )
        return Stream(batches=_pairs(loader, endless=not settings.one_pass))

    def _transform(self, settings: Settings) -> Any:
        from monai import transforms as m

        crop: dict[str, Any] = {
            "keys": _KEYS,
            "label_key": "label",
            "spatial_size": (settings.patch,) * 3,
            "pos": settings.oversampling,
            "neg": 1 - settings.oversampling,
        }
        # Volumes are stored channel first already.
        load = [m.LoadImaged(_KEYS, reader="NumpyReader", dtype=None)]
        if self._tuned:
            load.append(m.FgBgToIndicesd("label"))
            crop |= {"fg_indices_key": "label_fg_indices", "bg_indices_key": "label_bg_indices"}
        return m.Compose(
            [
                *load,
                m.RandCropByPosNegLabeld(**crop),
                m.CastToTyped("image", np.float32),
                *(m.RandFlipd(_KEYS, prob=1 / 3, spatial_axis=axis) for axis in range(3)),
                m.RandScaleIntensityd("image", factors=(0.7, 1.3), prob=0.1),
                m.RandGaussianNoised("image", prob=0.1, std=0.1),
                m.SelectItemsd(_KEYS),
            ]
        )


def _pairs(loader: Any, *, endless: bool) -> Iterator[tuple[Any, Any]]:
    while True:
        for batch in loader:
            yield batch["image"], batch["label"]
        if not endless:
            return
