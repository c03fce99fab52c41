"""What an all-reduce costs by the model."""

from dataclasses import replace
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.scale.network import BASE_S, DGX_A100, DGX_H100, Network, all_reduce_seconds, parameters
from model.unet3d import Unet3D

FREE = Network(inner_bandwidth=1e30, inner_latency=0.0, outer_bandwidth=1e30, outer_latency=0.0)


def test_parameters_are_those_of_the_network() -> None:
    assert parameters() == sum(parameter.numel() for parameter in Unet3D(1, 3).parameters())
    assert round(parameters() / 1e6, 2) == 31.19


def test_a_single_gpu_reduces_nothing() -> None:
    assert all_reduce_seconds(1e9, 1, 1, DGX_H100) == 0.0


def test_a_ring_in_a_node_sends_all_but_its_own_part_twice() -> None:
    network = replace(FREE, inner_bandwidth=1e9)
    assert all_reduce_seconds(1e9, 4, 1, network) == pytest.approx(2 * 3 / 4 + BASE_S)
    assert all_reduce_seconds(0, 4, 1, replace(FREE, inner_latency=1.0)) == pytest.approx(6 + BASE_S)


def test_each_gpu_sends_its_part_between_nodes() -> None:
    network = replace(FREE, outer_bandwidth=1e9)
    # By a ring, whose 2 (n - 1) / n is less than a tree's 2.
    assert all_reduce_seconds(8e9, 8, 5, network) == pytest.approx(2 * 4 / 5 + BASE_S)


def test_a_tree_takes_over_where_hops_cost_more_than_bytes() -> None:
    hops = replace(FREE, outer_latency=1.0)
    assert all_reduce_seconds(8e9, 8, 64, hops) == pytest.approx(2 * log2(64) * 2 + BASE_S)
    assert all_reduce_seconds(8e9, 8, 65, hops) == pytest.approx(2 * 7 * 2 + BASE_S)
    assert all_reduce_seconds(8e9, 8, 3, hops) == pytest.approx(2 * 2 + BASE_S)


@given(st.integers(1, 16), st.integers(1, 100), st.floats(1e3, 1e10))
def test_more_bytes_and_slower_networks_take_longer(gpus: int, nodes: int, size: float) -> None:
    seconds = all_reduce_seconds(size, gpus, nodes, DGX_H100)
    assert all_reduce_seconds(2 * size, gpus, nodes, DGX_H100) >= seconds
    assert all_reduce_seconds(size, gpus, nodes, DGX_A100) >= seconds
    assert all_reduce_seconds(size, gpus, nodes + 1, DGX_H100) >= seconds
