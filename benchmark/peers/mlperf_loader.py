"""The MLPerf reference's PyTorch loader and ours, side by side on the same volumes.

    python -m benchmark.peers.mlperf_loader --reference REFERENCE --data_dir DIR

``REFERENCE`` is the folder ``retired_benchmarks/unet3d/pytorch`` of a checkout of
github.com/mlcommons/training. Of it, ``data_loading/pytorch_loader.py`` runs unchanged, in a DataLoader built
as its ``data_loader.py`` does. Needs scipy, as the reference does.
"""

import argparse
import importlib.util
import multiprocessing
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmark.record import report
from pipelines.base import Shard
from pipelines.cases import find_cases, split
from pipelines.data_loader import LoaderConfig, build
from preprocess.spec import EVALUATION_CASES_FILE, TRAIN_SAMPLES, evaluation_ids

METHOD = (
    "Patches of 128^3, oversampling 0.4, all augmentation, on the training cases of data_dir. Both "
    "loaders in alternating order (A B, B A, ...), each time in a fresh process, after all files were "
    "read once (page cache). A process consumes batches for warmup_s seconds, then counts images for at "
    "least seconds: images/s = N / (t_end - t_start), both taken at the arrival of a batch. The "
    "consumer does nothing with a batch. The reference sees the cases repeated to the 168 entries of "
    "the real training set, so that it does not restart its workers more often than there. The "
    "foreground boxes that ours keeps for a run are found at the first biased crop of a case, here "
    "mostly during the warm-up; the reference finds them each time."
)


@dataclass(frozen=True)
class Settings:
    """What is measured, and how."""

    reference: Path
    data_dir: Path
    evaluation_cases: Path
    batch_size: int
    num_workers: int
    warmup_s: float
    seconds: float


def reference_batches(settings: Settings) -> Iterator[Any]:
    """Endless batches of the reference's PytTrain: lists of image and label, N x 1 x D x H x W."""
    cases = split(find_cases(settings.data_dir), evaluation_ids(settings.evaluation_cases))[0]
    repeated = list(islice(cycle(cases), TRAIN_SAMPLES))
    dataset = _reference_module(settings.reference).PytTrain(
        [str(case.image) for case in repeated],
        [str(case.label) for case in repeated],
        patch_size=[128, 128, 128],
        oversampling=0.4,
        seed=0,
    )
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=settings.batch_size,
        shuffle=True,
        num_workers=settings.num_workers,
        pin_memory=True,
        drop_last=True,
        # The default of Linux, which a spawned process forgets; the stand-ins must be inherited.
        multiprocessing_context="fork" if settings.num_workers else None,
    )
    while True:
        yield from loader


def our_batches(settings: Settings) -> Iterator[Any]:
    """Endless batches of the ``pytorch`` loader."""
    config = LoaderConfig(
        data_dir=settings.data_dir,
        evaluation_cases=settings.evaluation_cases,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        last_batch="pad",
    )
    return iter(build(config, Shard(), torch.device("cpu")))


LOADERS: dict[str, Callable[[Settings], Iterator[Any]]] = {
    "reference": reference_batches,
    "voxelrate": our_batches,
}


def _reference_module(folder: Path) -> types.ModuleType:
    """The reference's ``data_loading/pytorch_loader.py``, with stand-ins for what has gone or is not here."""
    import scipy.ndimage

    # Deprecated in scipy 1.8: accessing what is there would warn at every sample.
    scipy.ndimage.measurements = types.SimpleNamespace(label=scipy.ndimage.label)
    torchvision = types.ModuleType("torchvision")
    vars(torchvision)["transforms"] = types.SimpleNamespace(Compose=_Compose)
    sys.modules["torchvision"] = torchvision
    path = folder / "data_loading" / "pytorch_loader.py"
    spec = importlib.util.spec_from_file_location("mlperf_reference_loader", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(
            f"{path} not found: --reference is the folder unet3d/pytorch of the MLPerf reference"
        )
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


def measure(name: str, settings: Settings) -> float:
    """Images per second of one loader, in this process."""
    batches = LOADERS[name](settings)
    next(batches)
    end = time.perf_counter() + settings.warmup_s
    while time.perf_counter() < end:
        next(batches)
    images, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < settings.seconds:
        next(batches)
        images += settings.batch_size
    return images / elapsed


def compare(settings: Settings, rounds: int) -> dict[str, Any]:
    """Both loaders, ``rounds`` times each in alternating order: rates in images/s, medians, ratios."""
    for file in settings.data_dir.glob("case_*.npy"):
        with file.open("rb") as stream:
            while stream.read(1 << 24):
                pass
    rates: dict[str, list[float]] = {name: [] for name in LOADERS}
    for turn in range(rounds):
        for name in list(LOADERS)[:: 1 if turn % 2 == 0 else -1]:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
                rates[name].append(fresh.submit(measure, name, settings).result())
            print(f"round {turn + 1}: {name} {rates[name][-1]:.1f} images/s", file=sys.stderr, flush=True)
    ratios = [ours / theirs for ours, theirs in zip(rates["voxelrate"], rates["reference"], strict=True)]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "method": METHOD,
        "cases": len(split(find_cases(settings.data_dir), evaluation_ids(settings.evaluation_cases))[0]),
        "images_per_s": rates,
        "median_images_per_s": medians,
        "spread_images_per_s": {name: [min(values), max(values)] for name, values in rates.items()},
        "ratio_of_medians": medians["voxelrate"] / medians["reference"],
        "ratios_per_round": ratios,
    }


def main() -> None:
    """Parse, compare, print; ``--json`` also writes the result to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--evaluation_cases", type=Path, default=EVALUATION_CASES_FILE)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--warmup_s", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    flags = vars(parser.parse_args())
    rounds, path = flags.pop("rounds"), flags.pop("json")
    result = compare(Settings(**flags), rounds)
    report("loader-beside-mlperf-reference", "benchmark.peers.mlperf_loader", result, path)


if __name__ == "__main__":
    main()
