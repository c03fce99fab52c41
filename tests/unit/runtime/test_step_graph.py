"""The recorded step against the launched one, on the CPU: `TapeRecorder` stands in for the CUDA graph."""

from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

import pytest
import torch

from model.convolutions import ShadowWeights
from model.losses import DiceCELoss
from model.ops import Ops
from model.ops.dice_ce import reference as dice_ce_reference
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime.optimizers import OptimizerConfig, build_optimizer
from runtime.resume import restore
from runtime.training import train_step, training_steps
from tests.unit.runtime.recorded_states import SCHEDULE, TwoBuffers, assert_same, build_state, recorded
from tests.unit.runtime.tape_recorder import TapeRecorder


@pytest.mark.parametrize(
    ("optimizer", "amp_dtype", "ga_steps", "normalization"),
    [
        ("sgd", None, 1, "instancenorm"),
        ("sgd", None, 2, "instancenorm"),
        ("sgd", None, 3, "batchnorm"),
        ("sgd", "bfloat16", 1, "instancenorm"),
        ("sgd", "float16", 1, "instancenorm"),
        ("sgd", "float16", 3, "batchnorm"),
        ("plain sgd", None, 1, "batchnorm"),
        ("adam", None, 1, "instancenorm"),
        ("adam", "bfloat16", 2, "instancenorm"),
        ("adam", "float16", 1, "batchnorm"),
        ("lamb", None, 2, "instancenorm"),
        ("ours", "bfloat16", 1, "instancenorm"),
    ],
)
def test_twenty_steps_equal_the_launched_ones(
    optimizer: str, amp_dtype: str | None, ga_steps: int, normalization: str
) -> None:
    launched = build_state(optimizer, amp_dtype, ga_steps, normalization)
    recorder = TapeRecorder()
    graph = recorded(build_state(optimizer, amp_dtype, ga_steps, normalization), recorder)
    rates, losses = [], []
    for state in (launched, graph):
        steps = islice(training_steps(state, TwoBuffers(), 3, SCHEDULE), 20)
        rates.append([])
        for loss in steps:
            losses.append(loss)
            rates[-1].append(round(float(state.optimizer.param_groups[0]["lr"]), 6))
    assert rates[0] == rates[1]
    assert len(set(rates[0])) == 5, "the learning rate changed while the graph stayed"
    assert torch.equal(torch.stack(losses[:20]), torch.stack(losses[20:]))
    assert_same(launched, graph)
    assert (recorder.captures, recorder.replays) == (1, 20)
    assert all(p.grad is None for p in graph.model.parameters())


def test_an_overflow_at_the_first_step_leaves_a_momentum_of_nothing() -> None:
    state = recorded(build_state(amp_dtype="float16"))
    scale = state.scaler.get_scale()
    before = [p.detach().clone() for p in state.model.parameters()]
    label = torch.zeros(2, 1, 8, 8, 8, dtype=torch.uint8)
    train_step(state, iter([Batch(torch.full((2, 1, 8, 8, 8), float("inf")), label)]))
    assert state.scaler.get_scale() == scale / 2
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))
    assert not any(kept["momentum_buffer"].any() for kept in state.optimizer.state.values())
    assert train_step(state, TwoBuffers()).isfinite()
    assert all(p.isfinite().all() for p in state.model.parameters())


def test_an_overflow_in_mid_run_is_the_launched_ones() -> None:
    states = build_state(amp_dtype="float16"), recorded(build_state(amp_dtype="float16"))
    for state in states:
        batches = TwoBuffers()
        for step in range(6):
            batch = next(batches)
            if step == 3:
                batch.image[0, 0, 0, 0, 0] = float("inf")
            train_step(state, repeat(batch))
    assert_same(*states)
    assert states[0].scaler.get_scale() == states[0].scaler._init_scale / 2


def test_batches_may_lie_anywhere_and_in_any_memory_format() -> None:
    launched, graph = build_state(), recorded(build_state())
    for _ in range(4):
        image = torch.randn(2, 1, 8, 8, 8)
        batch = Batch(image, (image > 0.5).to(torch.uint8))
        elsewhere = Batch(image.clone(memory_format=torch.channels_last_3d), batch.label.clone())
        assert torch.equal(train_step(launched, repeat(batch)), train_step(graph, repeat(elsewhere)))
    assert_same(launched, graph)


def test_the_graph_reads_batches_in_the_memory_format_of_the_first() -> None:
    seen = []
    state = recorded(build_state())
    state.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].stride()))
    shape, strides = (2, 1, 8, 8, 8), (512, 1, 64, 8, 1)
    image = torch.empty_strided(shape, strides).normal_()
    train_step(state, repeat(Batch(image, torch.zeros(shape, dtype=torch.uint8))))
    assert set(seen) == {strides}


@pytest.mark.parametrize("optimizer", ["sgd", "lamb"])
def test_a_static_loss_scale_is_recorded(optimizer: str) -> None:
    settings = (optimizer, "float16", 2, "instancenorm", None, 1024.0)
    states = build_state(*settings), recorded(build_state(*settings))
    losses = [torch.stack(list(islice(training_steps(s, TwoBuffers(), 3, SCHEDULE), 8))) for s in states]
    assert torch.equal(*losses)
    assert_same(*states)


@pytest.mark.parametrize("told", [False, True])
def test_copies_of_weights_follow_the_replays(told: bool) -> None:
    states = build_state(amp_dtype="bfloat16"), build_state(amp_dtype="bfloat16")
    shadows = [ShadowWeights(state.model, torch.bfloat16) for state in states]
    for state, shadow in zip(states, shadows, strict=True):
        shadow.follow(state.optimizer)
    launched, recorder = states[0], TapeRecorder()
    refresh = shadows[1].refresh if told else None
    graph = recorded(states[1], recorder, refresh)
    losses = [
        torch.stack(list(islice(training_steps(s, TwoBuffers(), 3, SCHEDULE), 8))) for s in (launched, graph)
    ]
    assert torch.equal(*losses)
    assert_same(launched, graph)
    volume = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(launched.model(volume), graph.model(volume))
    copies = [call for call in recorder._tape.calls if "_foreach_copy_" in str(call[0])]
    assert len(copies) == (1 if told else 2), "untold, it finds out in the capture, and copies in each replay"


def test_the_formulas_of_the_fused_operations_can_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dice_ce_reference, "_check_range", lambda *_: None)  # which a CPU alone is asked
    ops = Ops(norm="reference", join="reference", loss="reference", stem="reference", head="reference")
    states = []
    for _ in range(2):
        state = build_state(loss_fn=DiceCELoss(backend="reference"))
        model = Unet3D(1, 3, filters=(2, 4), ops=ops, recompute_norm=True)
        model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        model.load_state_dict(state.model.state_dict())
        optimizer, _ = build_optimizer(model.parameters(), 0.1, OptimizerConfig(), tensor_lr=True)
        states.append(replace(state, model=model, optimizer=optimizer))
    launched, graph = states[0], recorded(states[1])
    for state in (launched, graph):
        batches = TwoBuffers()
        for _ in range(4):
            image, label = next(batches)
            train_step(state, repeat(Batch(image.to(memory_format=torch.channels_last_3d), label)))
    assert_same(launched, graph)


def test_profilers_see_what_the_host_does() -> None:
    state, batches = recorded(build_state(ga_steps=2)), TwoBuffers()
    train_step(state, batches)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train_step(state, batches)
    names = [event.name for event in profile.events()]
    assert (names.count("next batch"), names.count("replay"), names.count("forward")) == (2, 1, 0)


def test_losses_are_kept_apart() -> None:
    state, batches = recorded(build_state()), TwoBuffers()
    losses = [train_step(state, batches) for _ in range(3)]
    assert len({loss.data_ptr() for loss in losses}) == 3
    assert len({loss.item() for loss in losses}) == 3
    assert all(loss.shape == () and loss.dtype == torch.float32 and not loss.requires_grad for loss in losses)


def test_the_network_between_replays_is_the_one_that_is_trained() -> None:
    launched, graph = build_state(), recorded(build_state())
    streams = TwoBuffers(), TwoBuffers()
    volume = torch.randn(1, 1, 8, 8, 8)
    for _ in range(3):
        logits = []
        for state, batches in zip((launched, graph), streams, strict=True):
            train_step(state, batches)
            with torch.inference_mode():
                logits.append(state.model(volume))
        assert torch.equal(*logits)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "ours"])
def test_a_checkpoint_of_a_recorded_run_goes_on_in_another(optimizer: str, tmp_path: Path) -> None:
    whole, first, second = (recorded(build_state(optimizer, "float16")) for _ in range(3))
    streams = TwoBuffers(), TwoBuffers()
    for _ in range(3):
        train_step(whole, streams[0])
        train_step(first, streams[1])
    torch.save(first.state_dicts("last"), tmp_path / "ckpt.pth")
    restore(second, torch.load(tmp_path / "ckpt.pth", weights_only=True), tmp_path)
    for _ in range(3):
        train_step(whole, streams[0])
        train_step(second, streams[1])
    assert_same(whole, second)
