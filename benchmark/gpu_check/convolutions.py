"""The time of every convolution of the network: forward, gradient of its input, gradient of its weight."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmark.gpu_check.layers import Layer
from benchmark.gpu_check.scale import Scale, dtype_of, ndhwc
from benchmark.gpu_check.timing import Call, Timing, copies_beyond_cache, time_calls
from runtime.clock import synchronize

SLOW = ("slow_conv", "vol2col", "col2vol")
"""Parts of the names of PyTorch's own convolutions, which run where cuDNN takes none."""


class Convolution:
    """A layer's three directions on noise, in NDHWC, straight through aten: autograd would mix them."""

    def __init__(self, layer: Layer, batch: int, dtype: torch.dtype, device: torch.device) -> None:
        self._layer = layer
        transposed = layer.kind == "transposed"
        channels = (layer.inputs, layer.outputs) if transposed else (layer.outputs, layer.inputs)
        weight = torch.randn(*channels, *[layer.kernel] * 3, device=device) * layer.weights**-0.5
        self._weight = weight.to(dtype).contiguous(memory_format=torch.channels_last_3d)
        self._bias = None if layer.kind == "conv" else torch.zeros(layer.outputs, dtype=dtype, device=device)
        self.copies = copies_beyond_cache(layer.bytes_moved(batch, dtype.itemsize), device)
        self._x = [
            ndhwc((batch, layer.inputs, *[layer.edge_in] * 3), dtype, device, i) for i in range(self.copies)
        ]
        self._dy = [
            ndhwc((batch, layer.outputs, *[layer.edge] * 3), dtype, device, i) for i in range(self.copies)
        ]
        pad = 1 if layer.kind == "conv" else 0
        self._how: tuple[Any, ...] = ([layer.stride] * 3, [pad] * 3, [1] * 3, transposed, [0] * 3, 1)

    def directions(self) -> dict[str, list[Call]]:
        """Calls of each; the image has no gradient."""
        pairs = list(zip(self._x, self._dy, strict=True))
        found: dict[str, list[Call]] = {
            "forward": [partial(self._forward, x) for x in self._x],
            "d_input": [partial(self._backward, x, dy, 0) for x, dy in pairs],
            "d_weight": [partial(self._backward, x, dy, 1) for x, dy in pairs],
        }
        if self._layer.inputs == 1:
            del found["d_input"]
        return found

    def _forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.convolution(x, self._weight, self._bias, *self._how)

    def _backward(self, x: Tensor, dy: Tensor, which: int) -> Tensor:
        mask = [which == 0, which == 1, False]
        bias = None if self._bias is None else list(self._bias.shape)
        found = torch.ops.aten.convolution_backward(dy, x, self._weight, bias, *self._how, mask)
        return found[which]


def measure(
    scale: Scale, layer: dict[str, Any], names: list[str], dtype: str, batch: int, ceilings: dict[str, float]
) -> dict[str, Any]:
    """One layer in one dtype, by the algorithm that cuDNN takes. ``ceilings``: tflops and gbps."""
    shape, kind = Layer(**layer), dtype_of(dtype)
    convolution = Convolution(shape, batch, kind, scale.device)
    rows = {}
    for direction, calls in convolution.directions().items():
        timing = time_calls(calls, scale)
        rows[direction] = row(timing, batch * shape.flops, shape.bytes_moved(batch, kind.itemsize), ceilings)
    return {"layers": names, "shape": layer, "dtype": dtype, "batch": batch, "directions": rows}


def row(timing: Timing, flops: int, bytes_moved: int, ceilings: dict[str, float]) -> dict[str, Any]:
    """A time, the rates that it means, and their shares of the ceilings that are known."""
    found: dict[str, Any] = {"timing": timing.values(), "flops": flops, "bytes": bytes_moved}
    rates = {"tflops": flops / timing.median_s / 1e12, "gbps": bytes_moved / timing.median_s / 1e9}
    shares = {f"share_of_{name}": rates[name] / top for name, top in ceilings.items() if name in rates}
    return found | rates | shares


def kernels(scale: Scale, layers: list[dict[str, Any]], dtype: str, batch: int) -> dict[str, Any]:
    """The longest kernel of each direction of each layer, by the profiler."""
    found = {}
    for given in layers:
        layer = Layer(**given)
        for direction, calls in Convolution(layer, batch, dtype_of(dtype), scale.device).directions().items():
            found[f"{layer.name} {direction}"] = _longest(calls[0], scale.device)
    slow = [where for where, name in found.items() if any(part in name for part in SLOW)]
    return {"dtype": dtype, "batch": batch, "kernels": found, "not_by_cudnn": [] if scale.dry else slow}


def _longest(call: Call, device: torch.device) -> str:
    call()
    synchronize(device)
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
        call()
        synchronize(device)
    events = found.key_averages()
    if not events:
        return "the profiler saw none"
    spent = (
        (lambda event: event.self_device_time_total) if on_gpu else (lambda event: event.self_cpu_time_total)
    )
    return str(max(events, key=spent).key)[:160]
