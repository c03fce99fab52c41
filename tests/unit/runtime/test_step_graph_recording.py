"""What recording a step leaves behind, and what it refuses; on the CPU, as in `test_step_graph`."""

from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.losses import DiceCELoss
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime import step_graph
from runtime.errors import RunError
from runtime.lamb import Lamb
from runtime.optimizers import set_learning_rate
from runtime.precision import Precision, StaticLossScaler
from runtime.state import TrainState
from runtime.step_graph import StepGraph
from runtime.training import train_step
from tests.unit.runtime.recorded_states import Held, TwoBuffers, build_state, everything, recorded
from tests.unit.runtime.tape_recorder import TapeRecorder


def test_a_float_learning_rate_becomes_a_tensor_and_stays_the_same_one() -> None:
    model = Unet3D(1, 3, filters=(2, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25, fused=True)
    precision = Precision("cpu")
    train_step(
        recorded(TrainState(model, DiceCELoss(), optimizer, precision.scaler(), precision)), TwoBuffers()
    )
    rate = optimizer.param_groups[0]["lr"]
    assert (rate.shape, rate.dtype, rate.item()) == ((), torch.float32, 0.25)
    set_learning_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.5


@pytest.mark.parametrize(
    ("optimizer", "amp_dtype"),
    [("sgd", None), ("sgd", "float16"), ("adam", None), ("adam", "float16"), ("lamb", None)],
)
@pytest.mark.parametrize("steps_before", [0, 2])
def test_recording_leaves_no_trace(optimizer: str, amp_dtype: str | None, steps_before: int) -> None:
    state = build_state(optimizer, amp_dtype, 2, "batchnorm")
    batches = TwoBuffers()
    for _ in range(steps_before):
        train_step(state, batches)
    places, before = everything(state), [tensor.detach().clone() for tensor in everything(state)]
    scale = state.scaler.state_dict()
    graph = recorded(state, recorder := Held())
    train_step(graph, batches)
    assert (recorder.captures, recorder.replays) == (1, 1)
    assert batches.asked == 2 * (steps_before + 1), "warm-up took no batch of its own"
    assert state.scaler.state_dict() == scale
    for place, value in zip(places, before, strict=True):
        assert torch.equal(place, value)
    now, made = everything(state)[: len(places)], everything(state)[len(places) :]
    assert all(same is place for same, place in zip(now, places, strict=True))
    assert bool(made) is (steps_before == 0)
    assert not any(moments.any() for moments in made), "what the optimizer keeps begins at nothing"


def test_a_capture_of_random_numbers_begins_where_the_launched_step_would() -> None:
    seen = []

    class Noisy(DiceCELoss):
        def forward(self, logits: Tensor, label: Tensor) -> Tensor:
            seen.append(torch.get_rng_state())
            return super().forward(logits + torch.rand(()), label)

    state = recorded(build_state(loss_fn=Noisy()))
    before = torch.get_rng_state()
    train_step(state, TwoBuffers())
    assert len(seen) == step_graph.WARM_UP_STEPS + 1
    assert torch.equal(seen[0], before)
    assert torch.equal(seen[-1], before), "warm-up gave back what it drew"


@pytest.mark.parametrize(
    "other", [Batch(torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8, dtype=torch.uint8)),
              Batch(torch.zeros(2, 1, 8, 8, 8).half(), torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8))],
)  # fmt: skip
def test_a_batch_unlike_the_first_is_an_error(other: Batch) -> None:
    state = recorded(build_state())
    train_step(state, TwoBuffers())
    with pytest.raises(RunError, match="recorded batches of"):
        train_step(state, repeat(other))


def test_micro_batches_of_one_step_must_be_alike() -> None:
    small, large = (TwoBuffers((n, 1, 8, 8, 8)) for n in (1, 2))
    state = recorded(build_state(ga_steps=2))
    train_step(state, small)
    with pytest.raises(RunError, match="recorded batches of"):
        train_step(state, iter([next(small), next(large)]))


@pytest.mark.parametrize(
    "ask", [Tensor.item, lambda loss: loss.to("cpu") if loss > 0 else loss, Tensor.nonzero]
)
def test_a_step_that_waits_for_the_device_cannot_be_recorded(ask: Any) -> None:
    class Waiting(DiceCELoss):
        def forward(self, logits: Tensor, label: Tensor) -> Tensor:
            loss = super().forward(logits, label)
            ask(loss)
            return loss

    state = recorded(build_state(loss_fn=Waiting()))
    before = [p.detach().clone() for p in state.model.parameters()]
    with pytest.raises(RunError, match=r"--cuda_graph cannot record the step \(operation not permitted"):
        train_step(state, TwoBuffers())
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))


def test_out_of_memory_stays_what_it_is() -> None:
    class Full(TapeRecorder):
        def capture(self, work: Any) -> Tensor:
            raise torch.OutOfMemoryError("tried to allocate")

    with pytest.raises(torch.OutOfMemoryError):
        train_step(recorded(build_state(), Full()), TwoBuffers())


def test_the_first_of_the_errors_is_told() -> None:
    class Chained(TapeRecorder):
        def capture(self, work: Any) -> Tensor:
            try:
                raise RuntimeError("a copy from pageable memory\nCompile with")
            except RuntimeError:
                raise RuntimeError("capture invalidated")  # noqa: B904

    with pytest.raises(RunError, match=r"\(a copy from pageable memory\)"):
        train_step(recorded(build_state(), Chained()), TwoBuffers())


def test_warm_up_runs_beside_and_nothing_else_does() -> None:
    recorder = TapeRecorder()
    state = recorded(build_state(), recorder)
    seen = []
    state.model.register_forward_hook(lambda *_: seen.append(recorder.is_beside))
    train_step(state, TwoBuffers())
    assert seen == [True] * 3 + [False]


def test_what_the_graph_writes_to_must_stay() -> None:
    state = recorded(build_state())
    train_step(state, TwoBuffers())
    state.optimizer.param_groups[0]["lr"] = 0.1
    with pytest.raises(RuntimeError, match="set the learning rate by set_learning_rate"):
        train_step(state, TwoBuffers())
    state = recorded(build_state())
    train_step(state, TwoBuffers())
    state.optimizer.load_state_dict(state.optimizer.state_dict())
    with pytest.raises(RuntimeError, match="load a checkpoint before the first step"):
        train_step(state, TwoBuffers())


def test_closing_drops_what_was_recorded() -> None:
    recorder = TapeRecorder()
    state = recorded(build_state(), recorder)
    train_step(state, TwoBuffers())
    assert recorder._tape.calls
    assert state.graph is not None
    state.graph.close()
    state.graph.close()
    assert not recorder._tape.calls


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2))]


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.SGD(parameters(), 0.1),
        torch.optim.SGD(parameters(), 0.1, foreach=True),
        torch.optim.Adam(parameters(), 0.1, fused=True),
        torch.optim.Adam(parameters(), 0.1),
    ],
    ids=["sgd", "foreach sgd", "adam that is not capturable", "adam"],
)
def test_optimizers_that_need_the_host_are_refused(optimizer: torch.optim.Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with pytest.raises(RunError, match="give --optimizer_backend torch"):
        StepGraph(nn.Identity(), optimizer, scaler, 1, TapeRecorder())


def test_a_dynamic_scale_that_asks_the_host_is_refused() -> None:
    optimizer = Lamb(parameters())
    StepGraph(nn.Identity(), optimizer, StaticLossScaler(1024.0, "cpu"), 1, TapeRecorder())
    StepGraph(nn.Identity(), optimizer, torch.amp.GradScaler("cpu", enabled=False), 1, TapeRecorder())
    with pytest.raises(RunError, match="give --static_loss_scale or --amp_dtype bfloat16"):
        StepGraph(nn.Identity(), optimizer, torch.amp.GradScaler("cpu"), 1, TapeRecorder())


def test_dampening_is_refused() -> None:
    optimizer = torch.optim.SGD(parameters(), 0.1, momentum=0.9, dampening=0.5, fused=True)
    with pytest.raises(ValueError, match="dampening"):
        StepGraph(nn.Identity(), optimizer, torch.amp.GradScaler("cpu", enabled=False), 1, TapeRecorder())


def test_several_ranks_warm_up_for_longer(tmp_path: Path) -> None:
    class Counted(Held):
        def capture(self, work: Any) -> Tensor:
            return torch.tensor(0.0)

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        state = build_state()
        forwards = []
        state.model.register_forward_hook(lambda *_: forwards.append(1))
        state = recorded(replace(state, model=DistributedDataParallel(state.model)), Counted())
        before = [p.detach().clone() for p in state.model.parameters()]
        train_step(state, TwoBuffers())
        assert len(forwards) == step_graph.WARM_UP_STEPS_DDP == 11
        assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))
    finally:
        dist.destroy_process_group()
