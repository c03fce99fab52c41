"""The fused operations as problems, at a layer's shape.

Each comes in three ways: by the kernels (``triton``), by the plain formulas (``reference``) and as PyTorch
composes it (``native``), so that one can be judged, and timed, beside the others.
"""

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.gpu_check.problem import Maker, Problem, Tensors
from model.losses import DiceCELoss
from model.ops.accumulate_windows import accumulate_windows
from model.ops.dice_ce import dice_ce
from model.ops.head_conv import head_conv
from model.ops.instance_norm_relu import instance_norm_relu, instance_norm_relu_joined
from model.ops.stem_conv import stem_conv
from model.ops.up_join import up_join
from preprocess.spec import NUM_CLASSES

KINK = 1e-4
"""Where the input of a ReLU is nearer to 0, which side it is on is a matter of rounding, and no gradient is
sent."""


def norm(maker: Maker, batch: int, channels: int, edge: int, joined: bool = False) -> Problem:
    """Instance norm and ReLU; ``joined`` also writes a copy into a concatenation."""
    shape = (batch, channels, edge, edge, edge)
    x = maker.activations(0, *shape)
    spread = maker.weights(1, channels, scale=0.5, offset=2.0).to(x.dtype)
    x.mul_(spread.view(1, -1, 1, 1, 1)).add_(
        maker.weights(2, channels, scale=4.0).to(x.dtype).view(1, -1, 1, 1, 1)
    )
    inputs = {"x": x, "weight": maker.weights(3, channels, scale=0.3, offset=1.0)}
    inputs["bias"] = maker.weights(4, channels, scale=0.5)

    def run(given: Tensors, backend: str) -> Tensors:
        arguments: Any = (given["x"], given["weight"], given["bias"])
        if backend == "native":
            y = F.relu(F.instance_norm(arguments[0], weight=arguments[1], bias=arguments[2], eps=1e-5))
            return {"y": y, "copy": y} if joined else {"y": y}
        if not joined:
            return {"y": instance_norm_relu(*arguments, eps=1e-5, negative_slope=0.0, backend=backend)}
        y, buffer = instance_norm_relu_joined(*arguments, eps=1e-5, negative_slope=0.0, backend=backend)
        return {"y": y, "copy": buffer[:, channels:]}

    upstream = {"y": maker.activations(5, *shape)}
    if joined:
        upstream["copy"] = maker.activations(6, *shape)
    for number in range(batch):
        own = slice(number, number + 1)
        arguments: Any = (x[own].double(), inputs["weight"].double(), inputs["bias"].double())
        before = instance_norm_relu(*arguments, eps=1e-5, negative_slope=1.0, backend="reference")
        for gradient in upstream.values():
            gradient[own].mul_(before.abs() > KINK)
    return Problem(
        run=run, inputs=inputs, of_samples=frozenset({"x"}), wanted=("x", "weight", "bias"), upstream=upstream
    )


def transposed(
    maker: Maker, batch: int, inputs: int, outputs: int, edge: int, ready: bool = False
) -> Problem:
    """Transposed convolution, written beside a skip connection; ``edge`` is that of the output.

    Where the buffer is ``ready``, as the norm before leaves it in training, filling it is not part of the
    problem, and neither is the gradient of the skip connection.
    """
    wide = (batch, 2 * outputs, edge, edge, edge)
    given = {
        "x": maker.activations(0, batch, inputs, edge // 2, edge // 2, edge // 2),
        "skip": maker.activations(1, batch, outputs, edge, edge, edge),
        "weight": maker.weights(2, inputs, outputs, 2, 2, 2, scale=inputs**-0.5),
        "bias": maker.weights(3, outputs),
    }
    if ready:
        given["joined"] = maker.activations(5, *wide)

    def run(given: Tensors, backend: str) -> Tensors:
        x, skip, weight, bias = given["x"], given["skip"], given["weight"], given["bias"]
        if backend == "native":
            y = F.conv_transpose3d(x, weight.to(x.dtype), bias.to(x.dtype), stride=2)
            return {"y": torch.cat((y, skip), 1)}
        joined = given["joined"].detach() if ready else _beside_nothing(skip)
        return {"y": up_join(x, weight, bias, joined, backend=backend)}  # type: ignore[arg-type]

    return Problem(
        run=run,
        inputs=given,
        of_samples=frozenset({"x", "skip"}),
        wanted=("x", "weight", "bias") if ready else ("x", "skip", "weight", "bias"),
        upstream={"y": maker.activations(4, *wide)},
    )


def _beside_nothing(skip: Tensor) -> Tensor:
    """A buffer with the skip connection in its second half and NaN in its first."""
    channels = skip.shape[1]
    shape = (len(skip), 2 * channels, *skip.shape[2:])
    buffer = torch.empty(shape, dtype=skip.dtype, device=skip.device, memory_format=torch.channels_last_3d)
    buffer.fill_(torch.nan)
    buffer[:, channels:] = skip
    return buffer


def stem(maker: Maker, batch: int, outputs: int, edge: int) -> Problem:
    """The first convolution; the image has no gradient."""
    inputs = {
        "x": maker.activations(0, batch, 1, edge, edge, edge),
        "weight": maker.weights(1, outputs, 1, 3, 3, 3, scale=27**-0.5),
    }

    def run(given: Tensors, backend: str) -> Tensors:
        x, weight = given["x"], given["weight"]
        if backend == "native":
            return {"y": F.conv3d(x, weight.to(x.dtype), padding=1)}
        return {"y": stem_conv(x, weight, backend=backend)}  # type: ignore[arg-type]

    return Problem(
        run=run,
        inputs=inputs,
        of_samples=frozenset({"x"}),
        wanted=("weight",),
        upstream={"y": maker.activations(2, batch, outputs, edge, edge, edge)},
    )


def head(maker: Maker, batch: int, inputs: int, edge: int) -> Problem:
    """The 1x1x1 convolution to logits."""
    given = {
        "x": maker.activations(0, batch, inputs, edge, edge, edge),
        "weight": maker.weights(1, NUM_CLASSES, inputs, 1, 1, 1, scale=inputs**-0.5),
        "bias": maker.weights(2, NUM_CLASSES),
    }

    def run(given: Tensors, backend: str) -> Tensors:
        x, weight, bias = given["x"], given["weight"], given["bias"]
        if backend == "native":
            return {"y": F.conv3d(x, weight.to(x.dtype), bias.to(x.dtype))}
        return {"y": head_conv(x, weight, bias, backend=backend)}  # type: ignore[arg-type]

    return Problem(
        run=run,
        inputs=given,
        of_samples=frozenset({"x"}),
        wanted=("x", "weight", "bias"),
        upstream={"y": maker.activations(3, batch, NUM_CLASSES, edge, edge, edge)},
    )


def loss(maker: Maker, batch: int, edge: int) -> Problem:
    """Dice and cross entropy; the first sample lacks the last class."""
    logits = maker.activations(0, batch, NUM_CLASSES, edge, edge, edge).mul_(3)
    generator = torch.Generator(maker.device).manual_seed(1)
    shape = (batch, 1, edge, edge, edge)
    label = torch.randint(NUM_CLASSES, shape, dtype=torch.uint8, device=maker.device, generator=generator)
    label[0].clamp_(max=NUM_CLASSES - 2)

    def run(given: Tensors, backend: str) -> Tensors:
        if backend == "native":
            return {"loss": DiceCELoss()(given["logits"], given["label"])}
        arguments: Any = {"include_background": False, "backend": backend}
        return {"loss": dice_ce(given["logits"], given["label"], **arguments)}

    # A mean over so many voxels has gradients that float16 cannot hold: they are scaled, as in training.
    return Problem(
        run=run,
        inputs={"logits": logits, "label": label},
        of_samples=frozenset({"logits", "label"}),
        wanted=("logits",),
        upstream={"loss": torch.tensor(float(batch * edge**3), device=maker.device)},
        means=frozenset({"loss"}),
    )


def windows(maker: Maker, batch: int, edge: int) -> Problem:
    """Up to eight windows that overlap by half, added into a volume of logits; nothing has a gradient."""
    starts = list(product((0, edge // 2), repeat=3))[:batch]
    ramp = torch.linspace(0.1, 1.0, edge, dtype=torch.float64, device=maker.device)
    inputs = {
        "volume": maker.weights(0, 1, NUM_CLASSES, *[edge + edge // 2] * 3),
        "logits": maker.activations(1, batch, NUM_CLASSES, edge, edge, edge),
    }

    def run(given: Tensors, backend: str) -> Tensors:
        volume, logits = given["volume"].clone(), given["logits"]
        if backend == "native":
            weights = (ramp.view(-1, 1, 1) * ramp.view(-1, 1) * ramp).to(volume.dtype)
            for (d, h, w), window in zip(starts, logits, strict=True):
                volume[0, :, d : d + edge, h : h + edge, w : w + edge] += window.to(volume.dtype) * weights
        else:
            accumulate_windows(volume, logits, starts, ramp, ramp, ramp, backend=backend)  # type: ignore[arg-type]
        return {"y": volume}

    return Problem(run=run, inputs=inputs, of_samples=frozenset({"volume"}), wanted=(), upstream={})
