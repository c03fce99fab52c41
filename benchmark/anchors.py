"""Published step times of MLPerf U-Net3D: consumers to emulate, and lines to draw beside measurements."""

import argparse
import math
from dataclasses import dataclass, replace

from pipelines.errors import DataError

PATCH = (128, 128, 128)
"""The training patch of MLPerf, D x H x W voxels, which all anchors are of."""


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A published speed of one accelerator: ``images`` patches of 128^3 voxels in ``seconds``."""

    name: str
    images: float
    seconds: float
    source: str
    date: str
    """Of the runs where they are public, else of the publication; ISO 8601."""
    measured: bool = True
    """False where its authors have assumed it, as ``source`` then says."""

    @property
    def images_per_second(self) -> float:
        """Of one accelerator."""
        return self.images / self.seconds


_LOGS = (
    "median over 40 runs of the median throughput in NVIDIA's result logs (tracked_stats: training without "
    "evaluation), of a node of 8, batch 7 each; mlcommons/training_results_"
)
_STORAGE = "computation_time of a batch of 7 in mlcommons/storage, configs/dlio/workload/unet3d_"

ANCHORS = {
    anchor.name: anchor
    for anchor in (
        Anchor(
            name="nvidia-a100",
            images=36.5,
            seconds=1.0,
            source=f"MLPerf Training v2.0: {_LOGS}v2.0, NVIDIA/results/dgxa100_ngc22.04_mxnet",
            date="2022-05-15",
        ),
        Anchor(
            name="nvidia-h100",
            images=72.2,
            seconds=1.0,
            source=f"MLPerf Training v4.0: {_LOGS}v4.0, NVIDIA/results/eos_ngc24.04_mxnet",
            date="2024-04-25",
        ),
        Anchor(
            name="nvidia-h200",
            images=76.0,
            seconds=1.0,
            source=f"MLPerf Training v4.0: {_LOGS}v4.0, NVIDIA/results/h200_ngc24.04_mxnet",
            date="2024-04-24",
        ),
        Anchor(
            name="mlperf-storage-a100",
            images=7,
            seconds=0.636,
            source=f"MLPerf Storage v2.0: {_STORAGE}a100.yaml, commit cb7fa48",
            date="2025-05-15",
        ),
        Anchor(
            name="mlperf-storage-h100",
            images=7,
            seconds=0.323,
            source=f"MLPerf Storage v2.0: {_STORAGE}h100.yaml, commit cb7fa48",
            date="2025-05-15",
        ),
        Anchor(
            name="mlperf-storage-b200",
            images=7,
            seconds=0.162,
            source=f"{_STORAGE}b200.yaml, commit 0d75b41, quoted in issue 692 of that date; assumed by its "
            "authors: H100 divided by 2",
            date="2026-07-06",
            measured=False,
        ),
    )
}
"""By name. The ``nvidia`` ones are of NVIDIA's own MXNet code with DALI. MLPerf Storage's A100 and H100 come
from the training workload on the real device, so its Submission_guidelines.md, which names no software."""


def seconds_per_step(anchor: Anchor, batch_size: int) -> float:
    """Seconds of one step of ``batch_size`` images, taken to grow in proportion to their number."""
    return anchor.seconds * batch_size / anchor.images


@dataclass(frozen=True, kw_only=True)
class Emulated:
    """A consumer that takes ``seconds`` for a step of ``images`` images; of any number where that is None."""

    name: str
    seconds: float
    images: float | None
    source: str
    date: str | None
    assumed: bool
    """Whether the authors of a published time have assumed it."""

    def for_batch(self, batch_size: int) -> "Emulated":
        """The same consumer at a step of ``batch_size`` images, all micro-batches of the step together."""
        if self.images is None:
            return self
        return replace(self, seconds=self.seconds * batch_size / self.images, images=None)

    @property
    def seconds_per_step(self) -> float:
        """Seconds of one step.

        Raises:
            ValueError: of what batch is not said yet, see ``for_batch``.
        """
        if self.images is not None:
            raise ValueError(f"{self.name} takes {self.seconds} s for {self.images} images: call for_batch")
        return self.seconds


def parse_emulated(text: str) -> Emulated:
    """What ``--emulate NAME|SECONDS`` names: an anchor, or the seconds of one step at the batch size in use.

    Raises:
        argparse.ArgumentTypeError: neither a name nor a positive, finite number.
    """
    if text in ANCHORS:
        anchor = ANCHORS[text]
        return Emulated(
            name=anchor.name,
            seconds=anchor.seconds,
            images=anchor.images,
            source=anchor.source,
            date=anchor.date,
            assumed=not anchor.measured,
        )
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text} is neither a positive number of seconds for one step nor one of {', '.join(ANCHORS)}"
        )
    return Emulated(
        name=f"{seconds:g} s",
        seconds=seconds,
        images=None,
        source="given as a flag",
        date=None,
        assumed=False,
    )


def check_patch(patch: tuple[int, ...], emulated: Emulated) -> None:
    """Refuse a published time for another patch than the published one.

    Raises:
        DataError: ``emulated`` is an anchor, and ``patch`` is not 128 x 128 x 128 voxels.
    """
    if emulated.name in ANCHORS and tuple(patch) != PATCH:
        raise DataError(
            f"--emulate {emulated.name} is the step time of {'x'.join(map(str, PATCH))} patches, not of "
            f"{'x'.join(map(str, patch))}: leave --input_shape at 128 128 128, or give the seconds of a step"
        )
