"""The DALI graph: what happens to a patch on the device, and how volumes and draws get into it.

``augment`` is the whole of the augmentation. It is built from operators that exist for the CPU and the GPU,
and only its ``device`` tells the two apart, so that what is tested on a machine without a GPU is what runs on
one. The draws come from ``pipelines.draw`` as tensors; nothing in the graph has a random state of its own.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipelines.config import DaliDevice
from pipelines.draw import Shape
from pipelines.errors import DataError
from pipelines.slots import Layout

# DALI asks malloc for every buffer, and gets new pages for every one of a patch's size: 0.3 ms of page faults
# for each MiB. From this size on it keeps what it has had. Read when the library is loaded.
os.environ.setdefault("DALI_MALLOC_POOL_THRESHOLD", str(1 << 20))

try:
    from nvidia import dali
    from nvidia.dali import backend, fn, pipeline_def, types
except ImportError:
    dali = None

SKIPAHEAD = 65537
"""Sequences of DALI's Philox generator between neighbouring samples of a batch: ``kSkipaheadPerSample`` of
its ``operators/random/rng_base.h``, the same on both devices."""

QUEUE_DEPTH = 2
"""Batches that DALI works on at a time."""


class Draws(NamedTuple):
    """What was drawn for the samples of a batch: one array for each sample and field, or a graph's nodes."""

    mirrored: Any
    """bool scalar: any flip at all. Samples for which a condition is false are passed on untouched."""
    flips: Any
    """int32, D H W: which axes are mirrored."""
    brightened: Any
    """bool scalar."""
    brightness: Any
    """float32 scalar: the factor."""
    noisy: Any
    """bool scalar."""
    noise: Any
    """float32, 1 x D x H x W: the noise itself; 1 x 0 x 0 x 0 without. Where the graph makes it: int32, 4
    numbers, its shape, which is 1 x 1 x 1 x 1 without."""
    sigma: Any = None
    """float32 scalar: standard deviation of noise that the graph makes."""
    random_state: Any = None
    """uint32, 7 words: the state of DALI's Philox for the whole batch (key, counter, phase), of which sample
    i uses the sequence i x ``SKIPAHEAD`` further on."""


def augment(
    image: Any,
    label: Any,
    draws: Draws,
    *,
    device: DaliDevice,
    stored_half: bool,
    noise_in_graph: bool,
    half: bool,
    layout: Layout,
    patch_shape: Shape,
) -> tuple[Any, Any]:
    """The body: flips, brightness, noise, cast and layout of a patch on ``device``.

    Args:
        image: 1 x D x H x W, float32 or float16.
        label: uint8, of the same shape.
        draws: nodes on the CPU.
        device: Where image and label are.
        stored_half: The image is float16, which DALI's CPU operators do not compute with.
        noise_in_graph: Draw the noise here; else it comes with the draws.
        half: Emit float16 (DALI rounds ties away from zero there); else float32.
        layout: ``NDHWC`` moves the channel axis of the image last.
        patch_shape: D x H x W.
    """
    if stored_half:
        image = fn.cast(image, dtype=types.FLOAT)
    flips = draws.flips
    if draws.mirrored:
        image = fn.flip(image, depthwise=flips[0], vertical=flips[1], horizontal=flips[2])
        label = fn.flip(label, depthwise=flips[0], vertical=flips[1], horizontal=flips[2])
    brightness, noise = draws.brightness, draws.noise
    if noise_in_graph:
        noise = fn.random.normal(
            device=device, shape=noise, stddev=draws.sigma, _random_state=draws.random_state
        )
    if device == "gpu":
        brightness = brightness.gpu()
    if draws.brightened:
        image = image * brightness
    if draws.noisy:
        image = image + noise
    if half:
        image = fn.cast(image, dtype=types.FLOAT16)
    if layout == "NDHWC":
        # With one channel both orders are the same in memory: this costs no copy.
        image = fn.reshape(image, shape=[*patch_shape, 1], layout="DHWC")
    return image, label


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """What a pipeline is built for."""

    device: DaliDevice
    device_id: int | None
    batch_size: int
    threads: int
    patch_shape: Shape
    layout: Layout
    stored_half: bool
    half: bool
    noise_in_graph: bool
    gpudirect: bool = False
    """Whether DALI reads whole files straight into the GPU's memory."""


Feed = Callable[[int], Sequence[Sequence[Any]]]
"""(number of the iteration) -> for each output, one array for each sample; they are not copied, and must stay
as they are for ``QUEUE_DEPTH`` more iterations."""


def patches_pipeline(config: GraphConfig, patches: Feed, draws: Feed) -> Any:
    """A pipeline over patches that lie in host memory, which stays as it is while they are worked on.

    ``patches`` gives images and labels, 1 x D x H x W.
    """

    @_definition(config)
    def pipeline() -> Any:
        image, label = fn.external_source(
            source=patches, num_outputs=2, batch=True, no_copy=True, layout="CDHW"
        )
        if config.device == "gpu":
            image, label = image.gpu(), label.gpu()
        return _augmented(config, image, label, draws)

    return pipeline()


def volumes_pipeline(config: GraphConfig, volumes: Feed, starts: Feed, draws: Feed) -> Any:
    """A pipeline over whole volumes that lie in the memory of its device: it crops them there.

    ``volumes`` gives images and labels, 1 x D x H x W; ``starts`` the crop's first voxel, int32, 1 D H W.
    """

    @_definition(config)
    def pipeline() -> Any:
        image, label = fn.external_source(
            source=volumes, num_outputs=2, batch=True, no_copy=True, layout="CDHW", device=config.device
        )
        return _augmented(config, *_cropped(config, image, label, starts), draws)

    return pipeline()


def files_pipeline(
    config: GraphConfig, images: Sequence[str], labels: Sequence[str], starts: Feed, draws: Feed
) -> Any:
    """A pipeline over whole files, read in the order given, and cropped afterwards on the graph's device.

    They are read by the host or, where the configuration says so, by DALI's reader for GPUDirect Storage.
    """

    @_definition(config)
    def pipeline() -> Any:
        def read(files: Sequence[str]) -> Any:
            given: dict[str, Any] = {"files": list(files), "prefetch_queue_depth": 2}
            if config.gpudirect:
                whole = fn.readers.numpy(device="gpu", **given)
            else:
                # Without mmap the host's reader fetches the file in one go.
                whole = fn.readers.numpy(device="cpu", dont_use_mmap=True, **given)
                whole = whole.gpu() if config.device == "gpu" else whole
            return fn.reshape(whole, layout="CDHW")

        return _augmented(config, *_cropped(config, read(images), read(labels), starts), draws)

    return pipeline()


def _cropped(config: GraphConfig, image: Any, label: Any, starts: Feed) -> tuple[Any, Any]:
    (start,) = fn.external_source(source=starts, num_outputs=1, batch=True, no_copy=True)

    def crop(volume: Any) -> Any:
        return fn.slice(volume, start=start, shape=[1, *config.patch_shape], axes=[0, 1, 2, 3])

    return crop(image), crop(label)


def _augmented(config: GraphConfig, image: Any, label: Any, draws: Feed) -> tuple[Any, Any]:
    nodes = fn.external_source(
        source=draws, num_outputs=8 if config.noise_in_graph else 6, batch=True, no_copy=True
    )
    return augment(
        image,
        label,
        Draws(*nodes),
        device=config.device,
        stored_half=config.stored_half,
        noise_in_graph=config.noise_in_graph,
        half=config.half,
        layout=config.layout,
        patch_shape=config.patch_shape,
    )


def _definition(config: GraphConfig) -> Any:
    return pipeline_def(
        batch_size=config.batch_size,
        num_threads=config.threads,
        device_id=config.device_id,
        prefetch_queue_depth=QUEUE_DEPTH,
        enable_conditionals=True,
    )


def check_dali(noise_in_graph: bool) -> None:
    """Raise DataError if DALI is missing, or too old to be told what noise to draw."""
    if dali is None:
        raise DataError(
            "--loader dali needs nvidia.dali, which is not installed: pip install nvidia-dali-cuda120 (or "
            "nvidia-dali-cuda130), or use --loader pytorch"
        )
    if noise_in_graph:
        schema = backend.GetSchema("random__Normal")
        if not getattr(schema, "HasRandomStateArg", lambda: False)():
            raise DataError(
                f"DALI {dali.__version__} draws noise from a state that cannot be set, so no run could be "
                "resumed: install DALI 2.4"
            )
