"""The network's layers, their shapes and their work, derived from its filters.

A multiplication and an addition count as two operations. Names as in the tables: ``in``, ``d0`` ... down,
``bn``, ``u0`` ... up, ``out``; ``c1`` and ``c2`` are a block's convolutions and ``T`` is its transposed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from preprocess.spec import NUM_CLASSES


@dataclass(frozen=True)
class Layer:
    """One convolution. ``edge`` is that of its cubic output, in voxels."""

    name: str
    kind: str
    """``conv`` (3x3x3, no bias), ``transposed`` (2x2x2, stride 2, bias) or ``head`` (1x1x1, bias)."""
    inputs: int
    outputs: int
    stride: int
    edge: int

    @property
    def kernel(self) -> int:
        """Edge of the kernel."""
        return {"conv": 3, "transposed": 2, "head": 1}[self.kind]

    @property
    def edge_in(self) -> int:
        """Edge of the cubic input, in voxels."""
        return self.edge // 2 if self.kind == "transposed" else self.edge * self.stride

    @property
    def weights(self) -> int:
        """Without the bias."""
        return self.inputs * self.outputs * self.kernel**3

    @property
    def flops(self) -> int:
        """Of the forward pass, for one image; so many each of the gradients of input and weight takes too."""
        return 2 * self.weights * (self.edge_in if self.kind == "transposed" else self.edge) ** 3

    def bytes_moved(self, batch: int, element: int) -> int:
        """At least, in each of the three directions: input, output and weight once."""
        tensors = self.inputs * self.edge_in**3 + self.outputs * self.edge**3
        return element * (batch * tensors + self.weights)


@dataclass(frozen=True)
class Norm:
    """An instance norm with its ReLU."""

    name: str
    channels: int
    edge: int
    joins: bool
    """Whether a skip connection begins here."""


def layers(filters: Sequence[int], patch: int) -> list[Layer]:
    """All convolutions, in the order of the forward pass, for patches of edge ``patch``."""
    found = [
        Layer("in.c1", "conv", 1, filters[0], 1, patch),
        Layer("in.c2", "conv", filters[0], filters[0], 1, patch),
    ]
    edge = patch
    down = [(f"d{number}", *pair) for number, pair in enumerate(pairwise(filters))]
    for name, fewer, more in [*down, ("bn", filters[-1], filters[-1])]:
        edge //= 2
        found.append(Layer(f"{name}.c1", "conv", fewer, more, 2, edge))
        found.append(Layer(f"{name}.c2", "conv", more, more, 1, edge))
    more = filters[-1]
    for number, fewer in enumerate(reversed(filters)):
        edge *= 2
        found.append(Layer(f"u{number}.T", "transposed", more, fewer, 2, edge))
        found.append(Layer(f"u{number}.c1", "conv", 2 * fewer, fewer, 1, edge))
        found.append(Layer(f"u{number}.c2", "conv", fewer, fewer, 1, edge))
        more = fewer
    return [*found, Layer("out", "head", filters[0], NUM_CLASSES, 1, patch)]


def norms(filters: Sequence[int], patch: int) -> list[Norm]:
    """All norms, in the order of the forward pass: one after each 3x3x3 convolution."""
    skips = {"in.c2", *(f"d{number}.c2" for number in range(len(filters) - 1))}
    return [
        Norm(layer.name, layer.outputs, layer.edge, layer.name in skips)
        for layer in layers(filters, patch)
        if layer.kind == "conv"
    ]


def distinct(found: Sequence[Layer]) -> dict[Layer, list[str]]:
    """Layers of different shape, each with the names of all that have it."""
    groups: dict[tuple[object, ...], tuple[Layer, list[str]]] = {}
    for layer in found:
        key = (layer.kind, layer.inputs, layer.outputs, layer.stride, layer.edge)
        groups.setdefault(key, (layer, []))[1].append(layer.name)
    return dict(groups.values())


def distinct_norms(found: Sequence[Norm]) -> dict[Norm, list[str]]:
    """Norms of different shape, each with the names of all that have it."""
    groups: dict[tuple[int, int], tuple[Norm, list[str]]] = {}
    for norm in found:
        groups.setdefault((norm.channels, norm.edge), (norm, []))[1].append(norm.name)
    return dict(groups.values())


def flops_per_image(filters: Sequence[int], patch: int) -> tuple[int, int]:
    """Of all convolutions: the forward pass alone, and with the backward pass, in which the first convolution
    has no gradient of its input. What is not a convolution is not counted."""
    forward = [layer.flops for layer in layers(filters, patch)]
    return sum(forward), 3 * sum(forward) - forward[0]
