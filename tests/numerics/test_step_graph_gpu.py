"""The recorded step on a CUDA device, against the launched one, bit by bit."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.convolutions import ShadowWeights
from model.losses import DiceCELoss
from model.ops import NATIVE, Ops
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime.ddp import distributed
from runtime.graph_recorder import CudaRecorder
from runtime.optimizers import OptimizerConfig, build_optimizer
from runtime.precision import Precision
from runtime.schedule import LearningRate
from runtime.state import TrainState
from runtime.step_graph import StepGraph
from runtime.training import train_step, training_steps
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SCHEDULE = LearningRate(base=0.05, initial=0.001, warmup_epochs=4, decay_epochs=(6,), decay_factor=0.5)
SHAPE = (2, 1, 32, 32, 32)


@pytest.fixture(autouse=True)
def _reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)


def build_state(
    optimizer: str = "sgd",
    amp_dtype: str | None = None,
    ga_steps: int = 1,
    normalization: str = "instancenorm",
    *,
    ops: Ops = NATIVE,
    static_loss_scale: float | None = None,
) -> TrainState:
    torch.manual_seed(0)
    model = Unet3D(1, 3, normalization, filters=(8, 16, 32), ops=ops).cuda()
    if ops != NATIVE:
        model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    precision = Precision("cuda", amp_dtype is not None, amp_dtype or "float16", static_loss_scale)
    config = OptimizerConfig(name=optimizer, backend="torch", weight_decay=0.001)
    built, _ = build_optimizer(model.parameters(), 0.1, config, tensor_lr=True)
    return TrainState(model, DiceCELoss(backend=ops.loss), built, precision.scaler(), precision, ga_steps)


def recorded(
    state: TrainState, recorder: CudaRecorder | None = None, refresh: Callable[[], None] | None = None
) -> TrainState:
    recorder = recorder or CudaRecorder(torch.device("cuda", torch.cuda.current_device()))
    parts = (state.model, state.optimizer, state.scaler, state.ga_steps)
    return replace(state, graph=StepGraph(*parts, recorder, refresh))


def two_buffers() -> Iterator[Batch]:
    """A loader's two buffers, filled in turn; a batch is spoilt when the next one is asked for."""
    generator = torch.Generator("cuda").manual_seed(5)
    buffers = [
        Batch(torch.empty(SHAPE, device="cuda"), torch.empty(SHAPE, dtype=torch.uint8, device="cuda"))
        for _ in range(2)
    ]
    while True:
        for batch, former in (buffers, buffers[::-1]):
            former.image.fill_(float("nan"))
            former.label.fill_(2)
            batch.image.normal_(generator=generator)
            batch.label.copy_(batch.image > 0.5).add_(batch.image > 1)
            yield batch


def everything(state: TrainState) -> list[Tensor]:
    moments = [value for kept in state.optimizer.state.values() for value in kept.values()]
    return [*state.model.parameters(), *state.model.buffers(), *moments]


def twenty_steps(state: TrainState) -> Tensor:
    return torch.stack(list(islice(training_steps(state, two_buffers(), 3, SCHEDULE), 20)))


def assert_same(a: TrainState, b: TrainState, why: str) -> None:
    for one, other in zip(everything(a), everything(b), strict=True):
        assert torch.equal(one, other), why
    assert a.scaler.state_dict() == b.scaler.state_dict(), why


@pytest.mark.parametrize(
    ("optimizer", "amp_dtype", "ga_steps", "normalization"),
    [
        ("sgd", None, 1, "instancenorm"),
        ("sgd", "bfloat16", 2, "instancenorm"),
        ("sgd", "float16", 1, "instancenorm"),
        ("sgd", "float16", 3, "batchnorm"),
        ("adam", "bfloat16", 2, "instancenorm"),
        ("adam", "float16", 1, "batchnorm"),
        ("lamb", "bfloat16", 1, "instancenorm"),
    ],
)
def test_twenty_steps_equal_the_launched_ones(
    optimizer: str, amp_dtype: str | None, ga_steps: int, normalization: str
) -> None:
    settings = (optimizer, amp_dtype, ga_steps, normalization)
    compare([build_state(*settings) for _ in range(3)])


@pytest.mark.parametrize("ga_steps", [1, 2])
def test_our_kernels_and_copies_of_weights_are_recorded(ga_steps: int) -> None:
    ops = Ops(norm="triton", join="triton", loss="triton")
    states = [build_state("sgd", "float16", ga_steps, ops=ops, static_loss_scale=1024.0) for _ in range(3)]
    shadows = [ShadowWeights(state.model, torch.float16) for state in states]
    for state, shadow in zip(states, shadows, strict=True):
        shadow.follow(state.optimizer)
    compare(states, shadows[2].refresh)


def compare(states: list[TrainState], refresh: Callable[[], None] | None = None) -> None:
    """Two launch their steps, the third records them."""
    launched, again, graph = *states[:2], recorded(states[2], refresh=refresh)
    losses = [twenty_steps(state) for state in (launched, again, graph)]
    assert_same(launched, again, "launched steps do not repeat themselves here: nothing can be compared")
    assert_same(launched, graph, "replay differs")
    # The sum inside PyTorch's cross entropy is of atomics: its last bits are no one's, its gradient is exact.
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-5, atol=1e-6)


class Held(CudaRecorder):
    """Records, and does nothing when asked to replay."""

    def replay(self) -> None:
        pass


def test_recording_leaves_no_trace() -> None:
    state = build_state("adam", "float16", normalization="batchnorm")
    batches = two_buffers()
    train_step(state, batches)
    before = [tensor.detach().clone() for tensor in everything(state)]
    scale, random = state.scaler.state_dict(), torch.cuda.get_rng_state()
    batch = next(batches)
    train_step(recorded(state, Held(torch.device("cuda", torch.cuda.current_device()))), iter([batch]))
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(everything(state), before, strict=True))
    assert state.scaler.state_dict() == scale
    assert torch.equal(torch.cuda.get_rng_state(), random)


@pytest.mark.parametrize("ga_steps", [1, 3])
def test_a_step_is_one_launch_and_waits_for_nothing(ga_steps: int) -> None:
    state, batches = recorded(build_state("sgd", "float16", ga_steps)), two_buffers()
    train_step(state, batches)
    ready = [Batch(*(part.clone() for part in next(batches))) for _ in range(ga_steps)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(state, iter(ready))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with torch.profiler.profile() as profile:
        train_step(state, iter(ready))
    names = [event.name for event in profile.events()]
    assert names.count("cudaGraphLaunch") == 1
    launched = sum(
        name.startswith(("cudaLaunchKernel", "cuLaunchKernel", "cudaMemcpyAsync")) for name in names
    )
    assert launched <= 2 * ga_steps + 3, "two copies of each batch, and one of the loss"


def test_evaluation_between_replays_sees_the_trained_weights_and_leaves_them() -> None:
    launched, graph = build_state(), recorded(build_state())
    streams = two_buffers(), two_buffers()
    volume = torch.randn(1, 1, 64, 64, 64, device="cuda")
    for _ in range(4):
        logits = []
        for state, batches in zip((launched, graph), streams, strict=True):
            train_step(state, batches)
            with torch.inference_mode():
                logits.append(state.model(volume))
        assert torch.equal(*logits)
    assert_same(launched, graph, "replay differs")


def test_other_threads_may_use_the_device_during_a_capture() -> None:
    stop, faults = threading.Event(), []

    def loader() -> None:
        try:
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                while not stop.is_set():
                    torch.empty(1 << 22, device="cuda").normal_()
                    event = torch.cuda.Event()
                    event.record()
                    event.query()
        except RuntimeError as error:
            faults.append(error)

    thread = threading.Thread(target=loader)
    thread.start()
    try:
        assert train_step(recorded(build_state()), two_buffers()).isfinite()
    finally:
        stop.set()
        thread.join()
    assert not faults


@pytest.mark.parametrize(
    ("ga_steps", "one_bucket", "gradient_dtype"),
    [(1, False, "float32"), (1, True, "bfloat16"), (1, False, "float16"), (2, False, "float32")],
)
def test_data_parallel_steps_are_recorded(
    ga_steps: int, one_bucket: bool, gradient_dtype: str, tmp_path: Path
) -> None:
    """One rank, whose collectives are in the graph all the same."""

    def parallel(model: nn.Module) -> nn.Module:
        return distributed(
            model,
            device,
            static_graph=ga_steps == 1,
            one_bucket=one_bucket,
            gradient_dtype=gradient_dtype,
        )

    device = torch.device("cuda", torch.cuda.current_device())
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("nccl", init_method=store, rank=0, world_size=1, device_id=device)
    try:
        launched, graph = build_state(ga_steps=ga_steps), build_state(ga_steps=ga_steps)
        launched = replace(launched, model=parallel(launched.model))
        recorder = CudaRecorder(device)
        with recorder.beside():
            wrapped = parallel(graph.model)
        graph = recorded(replace(graph, model=wrapped), recorder)
        for state in (launched, graph):
            twenty_steps(state)
        assert_same(launched, graph, "replay differs")
        assert graph.graph is not None
        graph.graph.close()
    finally:
        dist.destroy_process_group()


def step_that_waits() -> None:
    """What `test_a_step_that_waits_is_told_so` runs in a process of its own."""

    class Waiting(DiceCELoss):
        def forward(self, logits: Tensor, label: Tensor) -> Tensor:
            loss = super().forward(logits, label)
            loss.item()
            return loss

    train_step(recorded(replace(build_state(), loss_fn=Waiting())), two_buffers())


def test_a_step_that_waits_is_told_so() -> None:
    """A capture that fails leaves PyTorch's allocator in no state for other tests."""
    code = f"from {__name__} import step_that_waits; step_that_waits()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "RunError: --cuda_graph cannot record the step (" in done.stderr.splitlines()[-1]
    assert "captur" in done.stderr.splitlines()[-1], "CUDA's first error, not the ones it led to"
