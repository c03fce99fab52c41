"""The MLPerf log: the one door to ``mlperf_logging``.

Rank 0 writes ``:::MLLOG`` lines to one file per run, each as it happens. Keys are those that the official
compliance checker of the v1.0.0 to v4.0.0 training rules asks for.
"""

import contextlib
import logging as std_logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from runtime.clock import SteadyClock
from runtime.errors import RunError
from runtime.files import set_aside
from runtime.layer_names import initialized_layers
from runtime.mlperf_arguments import MlperfConfig, in_samples

LOG_NAME = "unet3d.log"


class RunLog:
    """Writes the events of one run; ``RunLog()`` without a path writes nothing (all ranks but 0).

    Nothing is written after ``run_stop``: that is when the clock stops, and training may take longer to.
    Times are of a clock that nobody sets while the run lasts, see `SteadyClock`.

    Args:
        path: The log file. One that exists is from an earlier run and is renamed to carry its time, because
            the official checkers read one run per file.
        ruleset: One of ``RULESETS``, to log by.

    Raises:
        RunError: The file cannot be created, or mlperf_logging is missing.
    """

    def __init__(self, path: Path | None = None, ruleset: str = MlperfConfig.ruleset) -> None:
        self._in_samples = in_samples(ruleset)
        self.clock = SteadyClock()
        self._log: Any = None
        if path is None:
            return
        try:
            from mlperf_logging.mllog.mllog import MLLogger
        except ImportError as error:
            raise RunError(
                "the MLPerf log needs mlperf_logging, which is not installed: pip install mlperf-logging"
            ) from error
        logger = std_logging.Logger("voxelrate.mlperf", std_logging.INFO)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            set_aside(path)
            logger.addHandler(std_logging.FileHandler(path))
        except OSError as error:
            raise RunError(f"{path} cannot be created ({error.strerror}); check --log_dir") from error
        self._log = MLLogger(logger=logger, root_dir=str(Path(__file__).resolve().parent.parent))

    def _write(self, kind: str, key: str, value: Any, metadata: dict[str, Any]) -> None:
        if self._log is not None:
            getattr(self._log, kind)(key, value, metadata, time_ms=self.clock.milliseconds(), stack_offset=3)

    def event(self, key: str, value: Any = None, **metadata: Any) -> None:
        """A point in time."""
        self._write("event", key, value, metadata)

    def start(self, key: str, value: Any = None, **metadata: Any) -> None:
        """The beginning of an interval."""
        self._write("start", key, value, metadata)

    def end(self, key: str, value: Any = None, **metadata: Any) -> None:
        """The end of an interval."""
        self._write("end", key, value, metadata)

    def weights_initialized(self, model: nn.Module) -> None:
        """One event for each layer of the model, by the rules' names."""
        for name in initialized_layers(model):
            self.event("weights_initialization", tensor=name)

    @contextlib.contextmanager
    def block(self, epochs: Sequence[int], samples_per_epoch: int) -> Iterator[None]:
        """Epochs that are trained without an evaluation between them."""
        first = {"first_epoch_num": epochs[0], "epoch_count": len(epochs)}
        samples = {"samples_count": len(epochs) * samples_per_epoch}
        self.start("block_start", **first, **samples)
        yield
        self.end("block_stop", **first, **samples)

    def tracked_stats(self, epoch: int, throughput: float, loss_scale: float, learning_rate: float) -> None:
        """What NVIDIA's submissions log of each block: images per second of training, and two settings.

        ``epoch`` is the block's first.
        """
        stats = {"throughput": throughput, "loss_scale": loss_scale, "current_lr": learning_rate}
        self.event("tracked_stats", stats, step=epoch)

    def evaluation_start(self, epoch: int, samples: int) -> None:
        """The beginning of an evaluation after ``epoch``, ``samples`` training samples in all."""
        self.start("eval_start", epoch_num=self._epoch_num(epoch, samples))

    def evaluation_stop(self, epoch: int, samples: int, mean_dice: float) -> None:
        """Its score and its end."""
        place = self._epoch_num(epoch, samples)
        self.event("eval_accuracy", mean_dice, epoch_num=place)
        self.end("eval_stop", epoch_num=place)

    def _epoch_num(self, epoch: int, samples: int) -> int:
        """In the unit of the ruleset's reference convergence points."""
        return samples if self._in_samples else epoch

    def run_stop(self, status: str) -> None:
        """The clock stops, with ``success`` or ``aborted``: the last event."""
        self.end("run_stop", status=status)
        self._log = None
