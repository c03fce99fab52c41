"""DALI's own readers, wired as NVIDIA's MLPerf U-Net3D submissions are.

Two ``readers.numpy`` (shuffled after each epoch), a random object's box found in the whole label on the CPU
(``cache_objects``), a crop that holds it, flips with p = 0.33, brightness x U(0.7, 1.3) and noise of sigma
0.1, both with p = 0.1 and both computed for every sample and then masked. Source: ``dali_loader.py`` of
NVIDIA's unet3d implementation in mlcommons/training_results_v1.0 and v1.1, in its streaming form. Without a
GPU everything runs on DALI's CPU backend; with one, what follows the crop runs there, as in the submissions.

The submissions have mmap as a switch; it is on, as by DALI's default, since that was the faster here (160
instead of 200 ms of CPU time for an image).
"""

from typing import Any

from benchmark.peers.contender import Contender, Settings, Stream, not_installed


class DaliClassic(Contender):
    """Threads of one process."""

    def missing(self, settings: Settings) -> str | None:
        """DALI."""
        return not_installed("nvidia.dali", remedy="requirements.txt")

    def start(self, settings: Settings) -> Stream:
        """One pass runs the graph for a batch when it is asked for, and not before."""
        from nvidia.dali.plugin.pytorch import DALIGenericIterator

        pipeline = _pipeline(settings)
        if settings.one_pass:
            count = len(settings.cases()) // settings.batch_size
            return Stream(batches=(_tensors(pipeline.run()) for _ in range(count)))
        iterator = DALIGenericIterator([pipeline], ["image", "label"])
        return Stream(batches=((batch["image"], batch["label"]) for (batch,) in iterator))


def _tensors(outputs: Any) -> tuple[Any, Any]:
    import torch

    image, label = (torch.from_dlpack(output.as_tensor()) for output in outputs)
    return image, label


def _pipeline(settings: Settings) -> Any:
    from nvidia.dali import fn, pipeline_def, types

    device = settings.device()
    execution = (
        {"exec_async": False, "exec_pipelined": False, "prefetch_queue_depth": 1}
        if settings.one_pass
        else {"prefetch_queue_depth": 2}
    )

    @pipeline_def(
        batch_size=settings.batch_size,
        num_threads=settings.workers,
        device_id=device.index,
        seed=0,
        **execution,
    )
    def pipeline() -> tuple[Any, Any]:
        cases = settings.cases()
        image = _read([str(case.image) for case in cases])
        label = _read([str(case.label) for case in cases])
        image, label = _crop(image, label, settings)
        image = fn.cast(image, dtype=types.FLOAT)
        if device.type == "cuda":
            image, label = image.gpu(), label.gpu()
        flips = {
            axis: fn.random.coin_flip(probability=0.33) for axis in ("horizontal", "vertical", "depthwise")
        }
        image, label = fn.flip(image, **flips), fn.flip(label, **flips)
        image = image * _masked(0.1, fn.random.uniform(range=(0.7, 1.3)), 1.0)
        return _masked(0.1, image + fn.random.normal(image, stddev=0.1), image), label

    return pipeline()


def _read(files: list[str]) -> Any:
    from nvidia.dali import fn

    # Both readers shuffle alike: the order depends on the epoch and their seed alone.
    volume = fn.readers.numpy(files=files, shuffle_after_epoch=True, seed=0)
    return fn.reshape(volume, layout="CDHW")


def _crop(image: Any, label: Any, settings: Settings) -> tuple[Any, Any]:
    import numpy as np
    from nvidia.dali import fn, types

    shape = np.full(3, settings.patch)
    start, end = fn.segmentation.random_object_bbox(
        label,
        format="start_end",
        foreground_prob=settings.oversampling,
        classes=[1, 2],
        background=0,
        k_largest=2,
        cache_objects=True,
    )
    anchor = fn.roi_random_crop(label, roi_start=start, roi_end=end, crop_shape=[1, *shape.tolist()])
    # The channel's.
    anchor = fn.slice(anchor, 1, 3, axes=[0])
    size = types.Constant(shape, dtype=types.INT64)
    image, label = fn.slice([image, label], anchor, size, axis_names="DHW", out_of_bounds_policy="pad")
    return image, label


def _masked(probability: float, changed: Any, unchanged: Any) -> Any:
    from nvidia.dali import fn, types

    change = fn.cast(fn.random.coin_flip(probability=probability), dtype=types.BOOL)
    return change * changed + (change ^ True) * unchanged
