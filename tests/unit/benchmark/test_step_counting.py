"""Whole steps on tensors without numbers, the reference's as its own checkout has it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.environment import ROOT
from benchmark.peers.mlperf_reference import find_reference
from benchmark.peers.mlperf_step import ReferenceStep
from benchmark.step import fake_step
from benchmark.step.counting import count_claims, count_findings, memory_claims, memory_findings
from benchmark.step.fake_step import Shape, Subject, count_launches, saved_bytes
from benchmark.step.launches import launches_of_ops
from model.ops import Ops
from model.unet3d import MLPERF_FILTERS

MLPERF = Shape(filters=MLPERF_FILTERS, patch=128, batch_size=7)
TINY = Shape(filters=(4, 8), patch=16, batch_size=1)
LAST = torch.channels_last_3d


@pytest.fixture(scope="module")
def reference() -> ReferenceStep:
    folder: Path | None = find_reference(ROOT / ".work" / "reference")
    if folder is None:
        pytest.skip("no checkout of the reference at .work/reference")
    return ReferenceStep(folder)


def test_the_references_launches_are_those_known(reference: ReferenceStep) -> None:
    """As counted with another program on the meta device, whose 314 had two labels of a profiler."""
    count = count_launches(Subject(reference=reference), MLPERF)
    parts = {part: count.total(part, idle=True) for part in count.dispatches}
    assert parts == {"forward": 209, "loss": 32, "backward": 348, "optimizer": 312, "other": 0}
    assert count.total() == 593
    operations = count.by_operation()
    assert operations["aten::convolution"] == operations["aten::convolution_backward"] == 28
    assert operations["aten::native_batch_norm"] == operations["aten::relu"] == 22
    at_once = count_launches(Subject(reference=reference, foreach=True), MLPERF)
    assert at_once.total("optimizer") == 4
    assert at_once.total("backward") == count.total("backward")


def test_ours_launch_each_kernel_where_it_belongs() -> None:
    count, launches = count_launches(Subject(), MLPERF), launches_of_ops()
    operations = count.by_operation()
    # 28 convolutions, five of which are transposed and written beside their skip connections.
    assert operations["aten::convolution"] == operations["aten::convolution_backward"] == 23
    assert operations["voxelrate::up_join"] == operations["voxelrate::up_join_backward"] == 5
    assert operations["voxelrate::instance_norm_relu_joined"] == 5
    assert operations["voxelrate::instance_norm_relu"] == 17
    assert operations["voxelrate::instance_norm_relu_backward"] == 22
    assert count.total("optimizer") == 1
    assert count.total("loss") == launches["voxelrate::dice_ce"]
    kernels = sum(times * launches.get(name, 1) for name, times in operations.items())
    assert count.total() == kernels > count.total(kernels=False) == sum(operations.values())
    # No copies into another layout.
    assert not {"aten::clone", "aten::copy_", "aten::_to_copy"} & operations.keys()


def test_recomputed_norms_and_shadow_weights_are_counted() -> None:
    plain, recomputing = count_launches(Subject(), TINY), count_launches(Subject(recompute_norm=True), TINY)
    norms = 2 * (1 + 1 + 1 + 2)
    assert recomputing.by_operation()["voxelrate::instance_norm_relu_normalize"] == norms
    assert recomputing.total() == plain.total() + norms
    casting = count_launches(Subject(amp=True), TINY)
    shadowed = count_launches(Subject(amp=True, shadow_weights=True), TINY)
    assert shadowed.by_operation()["aten::_foreach_copy_"] == 1
    assert shadowed.by_operation()["aten::_to_copy"] < casting.by_operation()["aten::_to_copy"]
    assert shadowed.total("optimizer") == casting.total("optimizer") + 1


def test_saved_bytes_of_a_network_of_known_size() -> None:
    """Of ours in float32, by hand: what each convolution and each norm keeps."""
    shape = Shape(filters=(4,), patch=16, batch_size=1)
    top, low = 16**3, 8**3
    # Inputs of norms and convolutions, both halves of the buffer, and the logits; two statistics a channel.
    norms = 4 * 4 * (4 * top + 2 * low) + 6 * 2 * 4 * 4
    convolutions = 4 * 4 * (top + top + low + low + 2 * top + top + top)
    loss = 4 * 3 * top + 2 * 4 * 2
    assert saved_bytes(Subject(), shape) == norms + convolutions + loss
    forgotten = 4 * 4 * (top + top + low + low + top + top)
    assert saved_bytes(Subject(recompute_norm=True), shape) == norms + convolutions + loss - forgotten


def test_claims(reference: ReferenceStep) -> None:
    counts = count_findings(reference, TINY)
    memory = memory_findings(reference, TINY)
    assert counts["float32"].keys() < counts["bfloat16"].keys()
    assert memory["float32"]["reference"]["ratio"] == 1
    # Under autocast copies of the weights, otherwise no more than a few sums of the loss.
    assert memory["bfloat16"]["reference"]["fixed_bytes"] > 1000
    assert 0 <= memory["float32"]["reference"]["fixed_bytes"] < 100
    made = count_claims(counts) + memory_claims(memory)
    assert {claim["met"] for claim in made} <= {True, False}
    ratio = counts["float32"]["ours"]["ratio_to"]["reference"]["launches"]
    assert made[0] == {
        "claim": "float32, ours: launches at most half of reference's", "value": ratio, "limit": 0.5,
        "met": ratio <= 0.5,
    }  # fmt: skip
    assert sum("65 %" in claim["claim"] for claim in made) == 3


@pytest.mark.parametrize("kind", [nn.Conv3d, nn.ConvTranspose3d])
def test_convolutions_keep_the_layout_as_cudnns_do(kind: Any) -> None:
    for image_last, weight_last in ((False, False), (True, False), (False, True)):
        with FakeTensorMode(), fake_step._ConvolutionsKeepLayout():
            conv = kind(2, 4, 2)
            if weight_last:
                conv.weight.data = conv.weight.data.to(memory_format=LAST)
            x = torch.empty(3, 2, 6, 6, 6).to(memory_format=LAST if image_last else torch.contiguous_format)
            y = conv(x.requires_grad_())
            (dx,) = torch.autograd.grad(y.sum(), x)
        last = image_last or weight_last
        assert y.is_contiguous(memory_format=LAST) == last
        assert dx.is_contiguous(memory_format=LAST) == last


def test_other_ops_are_counted_as_asked() -> None:
    native = count_launches(Subject(ops=Ops()), TINY).by_operation()
    assert not [name for name in native if name.startswith("voxelrate")]
