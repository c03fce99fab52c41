"""The loader of the MLPerf reference, from the user's own checkout of github.com/mlcommons/training.

``data_loading/pytorch_loader.py`` of ``retired_benchmarks/unet3d/pytorch`` runs unchanged, in a DataLoader
built as its ``data_loader.py`` does. Two things that it imports are stood in for:
``scipy.ndimage.measurements``, which scipy is about to remove, and torchvision, of which it uses ``Compose``
alone.
"""

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from benchmark.peers.contender import Contender, Settings, Stream, not_installed
from preprocess.spec import TRAIN_SAMPLES

_FOLDER = Path("retired_benchmarks/unet3d/pytorch")
_LOADER = Path("data_loading/pytorch_loader.py")


def find_reference(folder: Path) -> Path | None:
    """The reference's own folder, from it or from the root of a checkout; None if it is neither."""
    return next((place for place in (folder, folder / _FOLDER) if (place / _LOADER).is_file()), None)


class Reference(Contender):
    """Reads whole volumes with ``np.load`` and searches the label at each foreground-biased crop."""

    def missing(self, settings: Settings) -> str | None:
        """A checkout, or scipy."""
        if settings.reference_dir is None:
            return "needs --reference_dir"
        return not_installed("scipy")

    def start(self, settings: Settings) -> Stream:
        """The cases are repeated to the size of the real training set, so that workers are not restarted more
        often than there; in one pass they are not."""
        assert settings.reference_dir is not None
        cases = settings.cases()
        if not settings.one_pass:
            cases = tuple(islice(cycle(cases), max(TRAIN_SAMPLES, len(cases))))
        dataset = _reference_module(settings.reference_dir).PytTrain(
            [str(case.image) for case in cases],
            [str(case.label) for case in cases],
            patch_size=[settings.patch] * 3,
            oversampling=settings.oversampling,
            seed=0,
        )
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_size=settings.batch_size,
            shuffle=True,
            num_workers=settings.workers,
            pin_memory=True,
            drop_last=True,
            # The workers must inherit the stand-ins.
            multiprocessing_context="fork",
        )
        return Stream(batches=iter(loader) if settings.one_pass else _endless(loader))


def _endless(loader: "DataLoader[Any]") -> Iterator[Any]:
    while True:
        yield from loader


def _reference_module(folder: Path) -> types.ModuleType:
    import scipy.ndimage

    # What is there warns at every access, which is once a sample.
    scipy.ndimage.measurements = types.SimpleNamespace(label=scipy.ndimage.label)
    torchvision = types.ModuleType("torchvision")
    vars(torchvision)["transforms"] = types.SimpleNamespace(Compose=_Compose)
    sys.modules["torchvision"] = torchvision
    spec = importlib.util.spec_from_file_location("mlperf_reference_loader", folder / _LOADER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class _Compose:
    """``torchvision.transforms.Compose``: one transform after the other."""

    def __init__(self, transforms: list[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, data: Any) -> Any:
        for transform in self.transforms:
            data = transform(data)
        return data
