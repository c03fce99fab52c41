"""MLPerf logs of invented runs, in the layouts that the rounds' logs have."""

import json
from pathlib import Path
from typing import Any

START_MS = 1_600_000_000_000
BASE: dict[str, Any] = {
    "submission_benchmark": "unet3d",
    "submission_division": "closed",
    "seed": 1,
    "opt_name": "sgd",
    "opt_base_learning_rate": 2.0,
    "oversampling": 0.4,
    "training_input_shape": [128, 128, 128],
    "validation_input_shape": [128, 128, 128],
    "validation_overlap": 0.5,
    "train_samples": 168,
    "eval_samples": 42,
    "global_batch_size": 56,
    "samples_per_epoch": 168,
}


class Writer:
    """A log, line by line, on a clock that starts at ``START_MS``."""

    def __init__(self, **changed: Any) -> None:
        self.lines: list[str] = []
        self.clock_ms = float(START_MS)
        for key, value in (BASE | changed).items():
            if value is not None:
                self.add(key, value)
        self.add("run_start")

    def add(self, key: str, value: Any = None, /, **metadata: Any) -> None:
        """A line at the present time."""
        content = {
            "namespace": "",
            "time_ms": self.clock_ms,
            "key": key,
            "value": value,
            "metadata": metadata,
        }
        self.lines.append(f":::MLLOG {json.dumps(content)}")

    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.clock_ms += 1000 * seconds

    def stop(self, status: str = "success") -> "Writer":
        """The end of the run."""
        self.add("run_stop", None, status=status)
        return self

    def save(self, path: Path) -> Path:
        """Write it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.lines) + "\n")
        return path


def nvidia(
    cycles: int = 52,
    *,
    images_per_s: float = 560.0,
    in_samples: bool = True,
    dice: float = 0.91,
    status: str = "success",
    evaluation_s: float = 1.5,
    **changed: Any,
) -> Writer:
    """A run of NVIDIA's code: cycles of 20 epochs of 168 samples, evaluations from the 50th on.

    The last evaluation has the Dice ``dice``, those before it 0.9.
    """
    log = Writer(**changed)
    unit = 168 if in_samples else 1
    for cycle in range(1, cycles + 1):
        epochs = {"first_epoch_num": unit * max(1, 20 * (cycle - 1)), "epoch_count": 20 * unit}
        log.add("block_start", None, **epochs)
        log.wait(20 * 168 / images_per_s)
        stats = {"throughput": images_per_s, "loss_scale": 1.0}
        log.add("tracked_stats", stats, step=cycle)
        log.add("block_stop", None, **epochs)
        if cycle >= 50:
            place = {"epoch_num": 20 * cycle * unit}
            log.add("eval_start", 20 * cycle, **place)
            log.wait(evaluation_s)
            log.add("eval_accuracy", dice if cycle == cycles else 0.9, **place)
            log.add("eval_stop", 20 * cycle, **place)
    return log.stop(status)


def ours(blocks: int = 3, *, epochs: int = 2, samples_per_epoch: int = 4, first_epoch: int = 1) -> Writer:
    """A small run of this program: blocks tell epochs and samples. 8 images/s, evaluations of 0.5 s."""
    log = Writer(samples_per_epoch=samples_per_epoch, global_batch_size=2)
    for block in range(blocks):
        first = first_epoch + block * epochs
        samples = epochs * samples_per_epoch
        told = {"first_epoch_num": first, "epoch_count": epochs, "samples_count": samples}
        log.add("block_start", None, **told)
        log.wait(samples / 8)
        log.add("block_stop", None, **told)
        place = {"epoch_num": (first + epochs - 1) * samples_per_epoch}
        log.add("eval_start", None, **place)
        log.wait(0.5)
        log.add("eval_accuracy", 0.91 if block == blocks - 1 else 0.5, **place)
        log.add("eval_stop", None, **place)
    return log.stop()
