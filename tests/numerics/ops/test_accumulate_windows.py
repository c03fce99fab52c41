"""`accumulate_windows` against the sum that it is."""

import sys
from collections.abc import Sequence
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from model.ops.accumulate_windows import LAUNCHES, accumulate_windows
from model.ops.accumulate_windows.reference import forward

CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
KERNELS = [
    pytest.param("cpu", torch.float32),
    pytest.param("cpu", torch.float16),
    pytest.param("cuda", torch.float32, marks=CUDA),
    pytest.param("cuda", torch.float16, marks=CUDA),
    pytest.param("cuda", torch.bfloat16, marks=CUDA),
]
"""The interpreter's bfloat16 is wrong."""
LAST = torch.channels_last_3d
FORMATS = [torch.contiguous_format, LAST]
Case = tuple[int, Sequence[int], Sequence[int], Sequence[Sequence[int]]]
CASES: list[Case] = [
    # K, volume, window and starts: a window within, windows on top of each other, ones that reach out on all
    # sides and one that lies outside; single voxels; rows of more than one tile.
    (3, (9, 10, 11), (4, 5, 6), [(0, 0, 0), (5, 5, 5), (2, 3, 4), (2, 3, 5)]),
    (2, (6, 5, 7), (4, 5, 6), [(-2, -1, -3), (3, 2, 4), (0, 0, 0), (6, 0, 0), (0, -5, 0)]),
    (1, (1, 1, 1), (1, 1, 1), [(0, 0, 0), (0, 0, 0)]),
    (5, (2, 3, 1), (8, 8, 4), [(-3, -4, -2)]),
    (3, (3, 2, 300), (2, 2, 260), [(0, 0, 7), (1, 0, 40)]),
]


def arguments(
    case: Case,
    dtype: torch.dtype,
    layouts: tuple[torch.memory_format, torch.memory_format] = (LAST, LAST),
    device: str = "cpu",
) -> dict[str, Any]:
    """A result that something has been added to before, windows of ``dtype``, and positive weights."""
    k, volume, window, starts = case
    result = torch.randn(1, k, *volume).contiguous(memory_format=layouts[0])
    logits = torch.randn(len(starts), k, *window).to(dtype).contiguous(memory_format=layouts[1])
    weights = (torch.rand(size, dtype=torch.float64) for size in window)
    given = dict(zip(("weights_d", "weights_h", "weights_w"), weights, strict=True))
    given |= {"result": result, "logits": logits}
    return {name: tensor.to(device) for name, tensor in given.items()} | {"starts": starts}


def padded_sum(given: dict[str, Any]) -> Tensor:
    """The definition, in float64: whole windows added within a wide frame, which is then cut off."""
    result, logits = given["result"].double(), given["logits"].double()
    d, h, w = (given[f"weights_{axis}"].double() for axis in "dhw")
    frame = logits.shape[2:]
    result = torch.nn.functional.pad(result, [size for size in reversed(frame) for _ in range(2)])
    for window, start in zip(logits, given["starts"], strict=True):
        z, y, x = (slice(s + n, s + 2 * n) for s, n in zip(start, frame, strict=True))
        result[0, :, z, y, x] += window * d[:, None, None] * h[:, None] * w
    return result[:, :, *(slice(n, -n) for n in frame)]


def accumulated(backend: Literal["reference", "triton"], given: dict[str, Any]) -> Tensor:
    """Into a copy of the result in its own layout."""
    copy = given["result"].clone(memory_format=torch.preserve_format)
    accumulate_windows(**given | {"result": copy}, backend=backend)
    return copy


def native(given: dict[str, Any]) -> Tensor:
    """As PyTorch alone does it in float32: the weights of a window as one volume, products, a sum."""
    copy = given["result"].clone()
    weight = (given["weights_d"][:, None, None] * given["weights_h"][:, None] * given["weights_w"]).float()
    for window, start in zip(given["logits"].float(), given["starts"], strict=True):
        low = [max(0, s) for s in start]
        high = [min(s + n, m) for s, n, m in zip(start, window.shape[1:], copy.shape[2:], strict=True)]
        there = [slice(a, max(a, b)) for a, b in zip(low, high, strict=True)]
        here = [slice(p.start - s, p.stop - s) for p, s in zip(there, start, strict=True)]
        copy[0, :, *there] += window[:, *here] * weight[*here]
    return copy


@pytest.mark.parametrize("layouts", [(a, b) for a in FORMATS for b in FORMATS])
@pytest.mark.parametrize("case", CASES)
def test_the_twin_is_the_definition(case: Case, layouts: Any) -> None:
    given = arguments(case, torch.float64, layouts)
    given["result"] = given["result"].double()
    found = accumulated("reference", given)
    torch.testing.assert_close(found, padded_sum(given), rtol=1e-14, atol=1e-14)
    assert found.stride() == given["result"].stride()


@pytest.mark.parametrize("weights", [torch.float64, torch.float32])
@pytest.mark.parametrize("layouts", [(a, b) for a in FORMATS for b in FORMATS])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("device", "dtype"), KERNELS)
def test_kernel(device: str, dtype: torch.dtype, case: Case, layouts: Any, weights: torch.dtype) -> None:
    pytest.importorskip("triton")
    given = arguments(case, dtype, layouts, device)
    given |= {f"weights_{axis}": given[f"weights_{axis}"].to(weights) for axis in "dhw"}
    exact, peer = padded_sum(given), (native(given).double() - padded_sum(given)).abs().max()
    for backend in ("triton", "reference"):
        found = accumulated(backend, given)
        assert found.dtype == torch.float32
        assert (found.double() - exact).abs().max() <= 2 * peer + 1e-6


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_nothing_beside_the_windows_is_touched(backend: Literal["reference", "triton"]) -> None:
    """NaN all around stays, none comes in, and the buffers around the tensors are as they were."""
    pytest.importorskip("triton")
    buffer = torch.full((3 * 7 * 8 * 9 + 200,), torch.nan)
    result = buffer[100:-100].view(1, 7, 8, 9, 3).movedim(-1, 1)
    result[:, :, 1:4, 2:6, 3:8] = 0
    given = arguments((3, (7, 8, 9), (3, 4, 5), [(1, 2, 3)]), torch.float32) | {"result": result}
    accumulate_windows(**given, backend=backend)
    assert result[:, :, 1:4, 2:6, 3:8].isfinite().all()
    assert buffer.isnan().sum() == buffer.numel() - 3 * 3 * 4 * 5


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_autocast_changes_nothing(backend: Literal["reference", "triton"]) -> None:
    pytest.importorskip("triton")
    given = arguments(CASES[0], torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = accumulated(backend, given)
    assert torch.equal(found, accumulated(backend, given))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_two_runs_give_the_same_bits(device: str) -> None:
    pytest.importorskip("triton")
    overlapping = [(z, 0, x) for z in (0, 1) for x in range(6)]
    given = arguments((3, (8, 8, 20), (7, 8, 9), overlapping), torch.float16, device=device)
    assert torch.equal(accumulated("triton", given), accumulated("triton", given))


def test_windows_are_added_one_after_the_other() -> None:
    """1e8 and then its opposite leave nothing of a 1 that came before, and all of one that comes after."""
    for backend in ("reference", "triton"):
        pytest.importorskip("triton")
        for values, total in (([1, 1e8, -1e8], 0), ([1e8, -1e8, 1], 1)):
            result, one = torch.zeros(1, 1, 1, 1, 1), torch.ones(1, dtype=torch.float64)
            logits = torch.tensor(values).view(3, 1, 1, 1, 1)
            accumulate_windows(result, logits, [(0, 0, 0)] * 3, one, one, one, backend=backend)
            assert result.item() == total


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_inference_mode_and_gradients(backend: Literal["reference", "triton"]) -> None:
    pytest.importorskip("triton")
    given = arguments(CASES[0], torch.float32)
    expected = accumulated(backend, given)
    with torch.inference_mode():
        assert torch.equal(accumulated(backend, given), expected)
    found = accumulated(backend, given | {"logits": given["logits"].requires_grad_()})
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_the_twin_takes_strided_arguments() -> None:
    given = arguments(CASES[1], torch.float64)
    given["result"] = given["result"].double().repeat(1, 1, 2, 1, 2)[:, :, ::2, :, ::2].flip(3)
    given["logits"] = given["logits"].transpose(2, 4).contiguous().transpose(2, 4)
    expected = padded_sum(given)
    accumulate_windows(**given, backend="reference")
    torch.testing.assert_close(given["result"], expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_custom_op_keeps_its_word(device: str) -> None:
    pytest.importorskip("triton")
    given = arguments(CASES[2], torch.float32, device=device)
    weights = (given[f"weights_{axis}"] for axis in "dhw")
    torch.library.opcheck(
        torch.ops.voxelrate.accumulate_window.default,
        (given["result"], given["logits"][:1], [0, 0, 0], *weights),
    )


def test_launches_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    if torch.cuda.is_available():
        pytest.skip("counts the interpreter's launches")
    launches: list[Any] = []
    launch = interpreter.GridExecutor.__call__

    def counted(*args: Any, **kwargs: Any) -> None:
        launches.append(args)
        launch(*args, **kwargs)

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", counted)
    accumulated("triton", arguments(CASES[0], torch.float32))
    assert len(launches) == 4 * LAUNCHES["voxelrate::accumulate_window"]


def test_the_meta_device_needs_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model.ops.accumulate_windows.triton", None)
    given = arguments(CASES[0], torch.float16)
    accumulated("triton", {name: v.to("meta") if name != "starts" else v for name, v in given.items()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "native"}, "backend must be reference or triton, found 'native'"),
        ({"result": torch.zeros(2, 3, 9, 10, 11)}, r"result must be 1 x K x D x H x W"),
        ({"result": torch.zeros(1, 4, 9, 10, 11)}, r"result must be 1 x K x D x H x W"),
        ({"result": torch.zeros(1, 3, 9, 10, 11).half()}, "result must be float32 or float64"),
        ({"logits": torch.zeros(4, 3, 4, 5, 6, dtype=torch.int32)}, "logits floating point"),
        ({"starts": [(0, 0, 0)] * 3}, "starts must be .* of each of 4 windows"),
        ({"starts": [(0, 0)] * 4}, "starts must be"),
        ({"weights_h": torch.ones(4, dtype=torch.float64)}, r"vectors of the sizes of a window \(4, 5, 6\)"),
        ({"weights_w": torch.ones(6)}, "all float64 or all float32"),
        ({"weights_w": torch.ones(6, dtype=torch.float64, device="meta")}, "must be on one device"),
        ({"result": torch.zeros(1, 3, 9, 10, 11).double()}, "kernel takes a float32 result"),
        ({"logits": torch.zeros(4, 3, 4, 5, 6).double()}, "kernel takes a float32 result"),
        (
            {"logits": torch.zeros(4, 3, 4, 6, 5).transpose(3, 4)},
            "logits must be contiguous or channels_last",
        ),
        ({"result": torch.zeros(1, 3, 9, 11, 10).transpose(3, 4)}, "result must be contiguous or"),
        ({"weights_d": torch.ones(8, dtype=torch.float64)[::2]}, "weights must be contiguous"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    given = arguments(CASES[0], torch.float32) | {"backend": "triton"}
    with pytest.raises(ValueError, match=message):
        accumulate_windows(**given | changes)


def test_the_kernel_wants_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="need a CUDA device"):
        accumulate_windows(**arguments(CASES[0], torch.float32), backend="triton")


def test_a_window_outside_is_left_out_by_the_twin_alone() -> None:
    given = arguments(CASES[0], torch.float32)
    before = given["result"].clone()
    weights = (given[f"weights_{axis}"] for axis in "dhw")
    forward(given["result"], given["logits"][:1], (0, 10, 0), *weights)
    assert torch.equal(given["result"], before)
