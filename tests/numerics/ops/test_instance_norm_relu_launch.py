"""The kernels as operators: how often they launch, what they are without a device, how they cut a volume."""

from collections import Counter
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model.ops.instance_norm_relu import (
    LAUNCHES,
    custom_ops,
    instance_norm_relu,
    instance_norm_relu_joined,
    normalize,
)
from model.ops.instance_norm_relu.tiling import CHUNKS, PROGRAMS, TILE_ELEMENTS, kernel_strides, tiling
from tests.numerics.ops.test_instance_norm_relu import ON_CPU, affine, volume

KERNELS = (
    "chunk_statistics",
    "merge_statistics",
    "normalize",
    "chunk_sums",
    "merge_sums",
    "input_gradient",
)


class Operations(TorchDispatchMode):
    """Names of what PyTorch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func._schema.name)
        return func(*args, **(kwargs or {}))


class Counting:
    """In the place of a kernel: counts its launches and computes nothing."""

    launches: Counter[str] = Counter()

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*_: object, **__: object) -> None:
            self.launches[self.name] += 1

        return launch


def test_launches_are_as_declared_and_nothing_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from model.ops.instance_norm_relu import launch

    for name in KERNELS:
        monkeypatch.setattr(launch.kernels, name, Counting(name))
    Counting.launches.clear()
    x, (weight, bias) = volume(2, 3, 2, 3, 2), affine(3)
    y, copy, dx = (torch.empty_like(x) for _ in range(3))
    with Operations() as operations:
        mean, rstd = launch.forward(x, weight, bias, 1e-5, 0.0, y, copy)
        assert Counting.launches == dict.fromkeys(KERNELS[:3], 1)
        Counting.launches.clear()
        launch.backward(y, copy, x, mean, rstd, weight, bias, 0.0, dx)
        assert Counting.launches == dict.fromkeys(KERNELS[3:], 1)
        Counting.launches.clear()
        launch.normalize(x, mean, rstd, weight, bias, 0.0, y)
        assert Counting.launches == {"normalize": 1}
    assert {name.split(".")[0] for name in operations.seen} == {"aten::empty", "aten::empty_like"}
    assert LAUNCHES == {
        "voxelrate::instance_norm_relu": 3,
        "voxelrate::instance_norm_relu_joined": 3,
        "voxelrate::instance_norm_relu_normalize": 1,
        "voxelrate::instance_norm_relu_backward": 3,
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(7, 32, 128, 128, 128), (2, 320, 4, 4, 4), (2, 1, 3, 1, 5)], ids=str)
def test_real_shapes_on_the_meta_device(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    channels = shape[1]
    x = torch.empty(shape, dtype=dtype, device="meta", memory_format=torch.channels_last_3d).requires_grad_()
    weight, bias = (torch.empty(channels, device="meta", requires_grad=True) for _ in range(2))
    with Operations() as operations:
        y, mean, rstd = instance_norm_relu(x, weight, bias, backend="triton", with_statistics=True)
        z, joined = instance_norm_relu_joined(y, weight, bias, backend="triton")
        again = normalize(x, mean, rstd, weight, bias, negative_slope=0.0, backend="triton")
        torch.autograd.backward([z, joined], [torch.empty_like(z), torch.empty_like(joined)])
    assert {name for name in operations.seen if name.startswith("voxelrate")} == set(LAUNCHES)
    computing = [name for name in operations.seen if "empty" not in name and not name.startswith("voxelrate")]
    assert set(computing) <= {"aten::slice", "aten::detach", "aten::add", "aten::add_"}, computing
    assert joined.shape == (shape[0], 2 * channels, *shape[2:])
    assert mean.shape == rstd.shape == shape[:2]
    assert x.grad is not None
    for tensor in (y, z, joined, again, x.grad):
        assert tensor.dtype == dtype
        assert tensor.is_contiguous(memory_format=torch.channels_last_3d)
    assert y.shape == z.shape == again.shape == x.grad.shape == shape
    for vector in (weight, bias):
        assert vector.grad is not None
        assert vector.grad.shape == (channels,)


@ON_CPU
def test_opcheck() -> None:
    x, dy = (volume(2, 3, 2, 1, 3, dtype=torch.float16) for _ in range(2))
    dskip, (weight, bias) = volume(2, 6, 2, 1, 3, dtype=torch.float16)[:, 3:], affine(3)
    _, mean, rstd = custom_ops.instance_norm_relu(x, weight, bias, 1e-5, 0.0)
    saved = (x, mean, rstd, weight, bias, 0.1)
    torch.library.opcheck(custom_ops.instance_norm_relu, (x, weight, bias, 1e-5, 0.1))
    torch.library.opcheck(custom_ops.normalize, saved)
    for gradients in ((dy, dskip), (None, dskip)):
        torch.library.opcheck(custom_ops.backward, (*gradients, *saved))
    # Half of the joined tensor is unwritten: two runs cannot be compared whole.
    torch.library.opcheck(
        custom_ops.instance_norm_relu_joined,
        (x, weight, bias, 1e-5, 0.1),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@ON_CPU
def test_compile_keeps_the_operators() -> None:
    x, (weight, bias) = volume(2, 3, 2, 1, 3).requires_grad_(), affine(3)

    def twice(x: Tensor) -> Tensor:
        y, joined = instance_norm_relu_joined(x, weight, bias, backend="triton")
        return y.sum() + joined[:, 3:].square().sum()

    compiled = torch.compile(twice, backend="aot_eager", fullgraph=True)
    (expected,) = torch.autograd.grad(twice(x), x)
    (found,) = torch.autograd.grad(compiled(x), x)
    assert torch.equal(found, expected)


def test_tilings_cover_every_volume_within_their_limits() -> None:
    levels = [(32, 128), (64, 64), (128, 32), (256, 16), (320, 8), (320, 4)]
    shapes = [(n, channels, side**3) for n, (channels, side) in product((1, 2, 7), levels)]
    shapes += list(product((1, 3, 4000), (1, 3, 65, 130), (2, 3, 1000, 2**31 + 5)))
    for samples, channels, voxels in shapes:
        cut = tiling(samples, channels, voxels)
        assert cut.rows * cut.channel_block <= TILE_ELEMENTS
        assert (cut.chunks - 1) * cut.chunk < voxels <= cut.chunks * cut.chunk
        assert (
            (cut.channel_blocks - 1) * cut.channel_block < channels <= cut.channel_blocks * cut.channel_block
        )
        assert cut.chunks <= CHUNKS
        programs = samples * cut.channel_blocks * cut.chunks
        assert programs <= max(PROGRAMS, samples * cut.channel_blocks)
        if samples < 8 and voxels >= 16**3 and channels < 320:
            assert programs >= 132


def test_strides_of_what_kernels_can_read() -> None:
    x = volume(2, 6, 3, 4, 5)
    assert kernel_strides(x) == (360, 6)
    assert kernel_strides(x[:, 2:4]) == (360, 6)
    assert kernel_strides(x[:1, 2:4, :1, :, :1].contiguous(memory_format=torch.channels_last_3d))[1] == 2
    assert kernel_strides(x[:, 2:3].contiguous()) == (60, 1)
    assert kernel_strides(x[:, :, :, :, :1]) == (360, 30)
    assert kernel_strides(torch.zeros(()).expand(2, 1, 3, 4, 5)) == (0, 0)
    for bad in (x.contiguous(), x[:, ::2], x[..., ::2], x[:, :, :, ::2], x[:, :, :, :2], x.transpose(2, 4)):
        assert kernel_strides(bad) is None
