"""Training steps as ``main.py`` does them, from its own command line."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch

from benchmark.gpu_check.scale import Scale
from benchmark.profile.subject import Subject
from runtime.arguments import RunConfig, parse_arguments
from runtime.clock import StepClock, synchronize
from runtime.distributed_utils import join_world
from runtime.errors import RunError

COMMON = ("--data_dir", "none", "--loader", "synthetic", "--seed", "0")


def config_of(flags: Sequence[str]) -> RunConfig:
    """What ``main.py`` would make of the flags.

    Raises:
        RunError: in its words, that they do not go together.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse_arguments(list(flags))
    except SystemExit as error:
        raise RunError(said.getvalue().strip() or f"exit status {error.code}") from None


@contextlib.contextmanager
def subject_of(scale: Scale, flags: Sequence[str], patch: int | None = None) -> Iterator[Subject]:
    """A loader of resident noise and a step, as the profile of ``flags`` would have them."""
    with join_world(0) as world:
        yield Subject(config_of([*COMMON, *scale.flags(patch), *flags]), world)


def measure(scale: Scale, flags: list[str], batch: int, flops_per_image: int) -> dict[str, Any]:
    """Images per second of one configuration, its spread, arithmetic and memory."""
    on_gpu = scale.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else 0
    with subject_of(scale, [*flags, "--batch_size", str(batch)]) as subject:
        loader = subject.loader()
        steps = subject.steps(iter(loader))
        warmup = list(islice(steps, scale.warmup_steps))
        clock = StepClock(subject.world.device)
        count = scale.min_steps
        if scale.window_s:
            _timed(steps, clock, 2)
            count = round(scale.window_s / max(clock.window_seconds / 2, 1e-6))
        _timed(steps, clock, min(scale.max_steps, max(scale.min_steps, count)))
        loss = float(next(steps))
        loader.close()
    seconds = sorted(clock.step_seconds())
    rate = batch * len(seconds) / clock.window_seconds
    return {
        "flags": flags,
        "batch": batch,
        "steps": len(seconds),
        "images_per_s": rate,
        "ms_per_step": 1000 * clock.window_seconds / len(seconds),
        "p10_ms": 1000 * seconds[len(seconds) // 10],
        "p50_ms": 1000 * seconds[len(seconds) // 2],
        "p90_ms": 1000 * seconds[-1 - len(seconds) // 10],
        "tflops": rate * flops_per_image / 1e12,
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "reserved_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
        "bytes_before": before,
        "first_loss": float(warmup[0]),
        "last_loss": loss,
    }


def _timed(steps: Iterator[Any], clock: StepClock, count: int) -> None:
    clock.start()
    for _ in islice(steps, count):
        clock.step()
    clock.stop()


def learnable(
    scale: Scale, batch: int, patch: int, layout: str, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch whose labels can be told from its image: blobs in noise, larger values inside smaller blobs.

    Returns:
        The image (N x 1 x D x H x W, float32) and its label (uint8), the same for the same ``number``.
    """
    generator = torch.Generator().manual_seed(number)
    coarse = torch.randn(batch, 1, *[max(2, patch // 8)] * 3, generator=generator)
    field = torch.nn.functional.interpolate(coarse, size=[patch] * 3, mode="trilinear", align_corners=True)
    label = (field > 0.4).to(torch.uint8) + (field > 0.8).to(torch.uint8)
    image = label.float() + 0.5 * torch.randn(field.shape, generator=generator)
    layouts = {"NDHWC": torch.channels_last_3d, "NCDHW": torch.contiguous_format}
    image = image.to(scale.device).contiguous(memory_format=layouts[layout])
    synchronize(scale.device)
    return image, label.to(scale.device)
