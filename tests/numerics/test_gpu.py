"""The network, the step and the clock on a CUDA device, against the same on the CPU."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from model.losses import DiceCELoss, DiceScore
from model.ops import NATIVE, Ops
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime.clock import StepClock
from runtime.inference import sliding_window_inference
from runtime.precision import Precision
from runtime.schedule import LearningRate
from runtime.state import TrainState
from runtime.training import training_steps
from tests.numerics.test_fused_network import all_by, batch, evaluated, largest_error, network
from tests.numerics.test_golden import GOLDEN, golden_model, seq

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def _plain_float32() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_golden_logits_and_loss_in_float32(memory_format: torch.memory_format) -> None:
    model = golden_model().float().cuda().to(memory_format=memory_format)  # type: ignore[call-overload]
    image = seq(2 * 64 * 32 * 32, 0.37, 0).view(2, 1, 64, 32, 32).float().cuda()
    label = (torch.arange(image.numel()) // 7 % 3).to(torch.uint8).view(image.shape).cuda()
    logits = model(image.contiguous(memory_format=memory_format))
    probe = logits.detach().contiguous().cpu().numpy().ravel()[GOLDEN["logits_probe_index"]]
    np.testing.assert_allclose(probe, GOLDEN["logits_probe_value"], rtol=1e-2, atol=2e-3)
    assert DiceCELoss()(logits, label).item() == pytest.approx(float(GOLDEN["loss_bg0"]), rel=1e-4)


def losses(device: str, amp_dtype: str | None, steps: int = 6) -> list[float]:
    torch.manual_seed(0)
    model = Unet3D(1, 3, filters=(8, 16, 32)).to(device)
    precision = Precision(device, amp_dtype is not None, amp_dtype or "float16")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    state = TrainState(model, DiceCELoss(), optimizer, precision.scaler(), precision)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 1, 32, 32, 32, generator=generator)
    batch = Batch(image.to(device), (image > 0.5).to(torch.uint8).to(device))
    return [
        loss.item()
        for loss in islice(training_steps(state, iter([batch] * steps), steps, LearningRate(base=0.1)), steps)
    ]


@pytest.mark.parametrize(("amp_dtype", "tolerance"), [(None, 1e-3), ("bfloat16", 0.03), ("float16", 0.03)])
def test_steps_follow_the_cpus(amp_dtype: str | None, tolerance: float) -> None:
    reference = losses("cpu", None)
    found = losses("cuda", amp_dtype)
    if amp_dtype == "float16" and found[1] == pytest.approx(found[0], abs=1e-4):
        found = found[1:] + found[-1:]  # the scaler's first scale overflowed, so that step was skipped
    assert found == pytest.approx(reference, abs=tolerance)


def test_evaluation_follows_the_cpus() -> None:
    torch.manual_seed(0)
    model = Unet3D(1, 3, filters=(4, 8)).eval()
    volume, label = torch.randn(1, 1, 40, 50, 60), torch.randint(0, 3, (1, 1, 40, 50, 60), dtype=torch.uint8)
    with torch.inference_mode():
        expected, kept = sliding_window_inference(volume, label, (32, 32, 32), model)
        found, _ = sliding_window_inference(volume.cuda(), label.cuda(), (32, 32, 32), model.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
    score = DiceScore()(found, kept.cuda())
    torch.testing.assert_close(score.cpu(), DiceScore()(expected, kept), rtol=1e-2, atol=1e-2)


def test_the_clocks_events_add_up_to_its_window() -> None:
    matrix = torch.randn(4096, 4096, device="cuda")
    clock = StepClock(torch.device("cuda"))
    clock.start()
    for _ in range(20):
        for _ in range(10):
            matrix = matrix @ matrix / 4096
        clock.step()
    clock.stop()
    assert len(clock.step_seconds()) == 20
    assert sum(clock.step_seconds()) == pytest.approx(clock.window_seconds, rel=0.1)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_network_by_kernels_is_as_exact_as_by_native_modules(dtype: torch.dtype, recompute: bool) -> None:
    def found(ops: Ops, float64: bool = False, **more: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        wide = torch.float64 if float64 else torch.float32
        data = Batch(*(part.cuda() for part in batch(dtype=wide)))
        with torch.autocast("cuda", dtype, enabled=not float64 and dtype != torch.float32):
            logits = (model := network(ops, dtype=wide, **more).cuda())(data.image)
            loss = DiceCELoss(backend=ops.loss)(logits, data.label)
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return logits.detach().double(), loss.detach().double(), gradients

    kernels = all_by("triton")
    truth, native, fused = found(NATIVE, True), found(NATIVE), found(kernels, recompute_norm=recompute)
    floor = 1e-5
    assert (fused[0] - truth[0]).norm() <= 2 * (native[0] - truth[0]).norm() + floor * truth[0].norm()
    assert abs(fused[1] - truth[1]) <= 2 * abs(native[1] - truth[1]) + 1e-3 * truth[1]
    assert largest_error(fused[2], truth[2]) <= 2 * largest_error(native[2], truth[2]) + floor


def test_kernels_give_the_same_bits_twice() -> None:
    torch.backends.cudnn.deterministic = True
    try:
        ops = all_by("triton")
        runs = []
        for _ in range(2):
            data = Batch(*(part.cuda() for part in batch(dtype=torch.float32)))
            runs.append(evaluated(network(ops, dtype=torch.float32).cuda(), ops, data))
    finally:
        torch.backends.cudnn.deterministic = False
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(torch.equal(runs[0][2][name], gradient) for name, gradient in runs[1][2].items())
