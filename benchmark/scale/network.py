"""What averaging gradients over GPUs costs, by a model."""

from dataclasses import dataclass
from functools import cache

import torch

from model.unet3d import Unet3D
from preprocess.spec import NUM_CLASSES

GRADIENT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Of one element, by the ``--ddp_gradient_dtype`` of main.py."""

BASE_S = 8.4e-6
"""Of any all-reduce: baseLat of NCCL's src/graph/tuning.cc (2.2x), ring, protocol Simple."""

TREE_HOP = 2.0
"""A hop of NCCL's tree over one of its ring on a network: 28 over 14 us, the same file, protocol Simple."""


@cache
def parameters() -> int:
    """Of MLPerf's network, counted without making its weights."""
    with torch.device("meta"):
        model = Unet3D(1, NUM_CLASSES)
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True, kw_only=True)
class Network:
    """Bytes per second that each GPU sends, and seconds of a hop, within a node and between nodes."""

    inner_bandwidth: float
    inner_latency: float
    outer_bandwidth: float
    outer_latency: float


NCCL_NVLINK_S = 3.4e-6
NCCL_NETWORK_S = 14e-6
"""hwLat of NCCL's src/graph/tuning.cc (2.2x), ring, protocol Simple: NVLink and network."""

DGX_H100 = Network(
    inner_bandwidth=18 * 20.6e9,
    inner_latency=NCCL_NVLINK_S,
    outer_bandwidth=50e9,
    outer_latency=NCCL_NETWORK_S,
)
"""18 NVLinks of 20.6 GB/s (SM90_NVLINK_BW of NCCL's src/graph/topo.h); ConnectX-7 with 400 Gb/s per GPU."""

DGX_A100 = Network(
    inner_bandwidth=235e9,
    inner_latency=NCCL_NVLINK_S,
    outer_bandwidth=25e9,
    outer_latency=NCCL_NETWORK_S,
)
"""235 GB/s is what NCCL's src/graph/tuning.cc (2.7) lets compute capability 8.0 have; 200 Gb/s per GPU."""


def all_reduce_seconds(size: float, gpus_per_node: int, nodes: int, network: Network) -> float:
    """Of ``size`` bytes: a ring reduce-scatter within each node, then each GPU's part between the nodes, then
    a ring all-gather within each node.

    Between nodes it goes by a ring or by a tree, whichever is faster, as NCCL chooses. A ring over n sends
    2 (n - 1) / n of the bytes in 2 (n - 1) hops; a tree all of them up and down, in 2 log2(n) hops, rounded
    up. Nothing is gained from switches that sum (SHARP), nothing lost to other traffic.
    """
    if gpus_per_node * nodes == 1:
        return 0.0
    inner_hops = 2 * (gpus_per_node - 1)
    inner = inner_hops * (size / gpus_per_node / network.inner_bandwidth + network.inner_latency)
    return BASE_S + inner + _between(size / gpus_per_node, nodes, network)


def _between(size: float, nodes: int, network: Network) -> float:
    ring_hops = 2 * (nodes - 1)
    ring = ring_hops * (size / nodes / network.outer_bandwidth + network.outer_latency)
    if nodes <= 2:
        return ring
    tree_hops = 2 * (nodes - 1).bit_length()
    tree = 2 * size / network.outer_bandwidth + tree_hops * TREE_HOP * network.outer_latency
    return min(ring, tree)
