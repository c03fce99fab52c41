"""Our own loaders, as a training run has them."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from typing import Any

from benchmark.peers.contender import Contender, Settings, Stream, not_installed
from pipelines.base import Position, Shard
from pipelines.cases import Schedule, Step


class Voxelrate(Contender):
    """``--loader pytorch``, or ``--loader dali`` with one of its places to keep volumes in."""

    ours = True

    def __init__(self, loader: str, **options: Any) -> None:
        self._loader, self._options = loader, options
        self.keeps_volumes = options.get("data_cache", "none") != "none"

    def missing(self, settings: Settings) -> str | None:
        """DALI."""
        return not_installed("nvidia.dali", remedy="requirements.txt") if self._loader == "dali" else None

    def start(self, settings: Settings) -> Stream:
        """Whole batches of each pass; one pass is cut off where reading ahead would go beyond it."""
        # Imported here: it sets a variable of the environment that other users of DALI would see.
        from pipelines.config import LoaderConfig
        from pipelines.data_loader import build

        config = LoaderConfig(
            loader=self._loader,
            data_dir=settings.data_dir,
            evaluation_cases=settings.evaluation_cases,
            batch_size=settings.batch_size,
            input_shape=(settings.patch,) * 3,
            val_input_shape=(settings.patch,) * 3,
            oversampling=settings.oversampling,
            num_workers=settings.workers,
            last_batch="pad",
            **self._options,
        )
        loader: Any = build(config, Shard(), settings.device())
        if settings.one_pass:
            # Loaders have no end of their own, since training has none.
            loader._schedule = _OneEpoch(
                **{field.name: getattr(loader._schedule, field.name) for field in fields(Schedule)}
            )
        return Stream(batches=iter(loader), bytes_read=lambda: loader.bytes_read, close=loader.close)


class _OneEpoch(Schedule):
    def steps(self, start: Position) -> Iterator[Step]:
        return islice(super().steps(start), self.steps_per_epoch)
