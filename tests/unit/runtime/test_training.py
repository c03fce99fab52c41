"""The step and the loop on a network small enough to train in milliseconds."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest
import torch

from pipelines.base import Batch
from runtime.callbacks import Callback
from runtime.keeper import Keeper, Place
from runtime.optimizers import set_learning_rate
from runtime.schedule import LearningRate
from runtime.signals import Signals
from runtime.state import TrainState
from runtime.training import train_step, training_steps
from tests.unit.runtime.training_runs import WORLD, RandomBatches, Recorder, build_state, run


def test_accumulation_equals_the_larger_batch() -> None:
    whole, parts = build_state(), build_state(ga_steps=4)
    one, four = iter(RandomBatches(8)), iter(RandomBatches(2))
    for _ in range(3):
        loss = train_step(whole, one)
        accumulated = train_step(parts, four)
        torch.testing.assert_close(loss, accumulated, rtol=1e-5, atol=1e-6)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_step_leaves_no_gradient_and_changes_every_parameter() -> None:
    state = build_state()
    before = [p.detach().clone() for p in state.model.parameters()]
    loss = train_step(state, iter(RandomBatches()))
    assert loss.shape == ()
    assert not loss.requires_grad
    for old, new in zip(before, state.model.parameters(), strict=True):
        assert new.grad is None
        assert not torch.equal(old, new)


@pytest.mark.parametrize("amp_dtype", ["bfloat16", "float16"])
def test_mixed_precision_follows_float32(amp_dtype: str) -> None:
    reference, mixed = build_state(), build_state(amp_dtype=amp_dtype)
    seen = []
    mixed.model.output.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    for plain, low in zip(
        islice(training_steps(reference, iter(RandomBatches()), 3, LearningRate(base=0.05)), 6),
        islice(training_steps(mixed, iter(RandomBatches()), 3, LearningRate(base=0.05)), 6),
        strict=True,
    ):
        assert low.dtype == torch.float32
        assert low.item() == pytest.approx(plain.item(), abs=0.02)
    assert set(seen) == {getattr(torch, amp_dtype)}
    assert mixed.scaler.is_enabled() is (amp_dtype == "float16")


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    state = build_state(amp_dtype="float16")
    before = [p.detach().clone() for p in state.model.parameters()]
    scale = state.scaler.get_scale()
    label = torch.zeros(1, 1, 8, 8, 8, dtype=torch.uint8)
    train_step(state, iter([Batch(torch.full((1, 1, 8, 8, 8), math.inf), label)]))
    assert state.scaler.get_scale() == scale / 2
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))


def test_each_epoch_has_its_learning_rate() -> None:
    state, schedule = build_state(), LearningRate(base=0.4, initial=0.0, warmup_epochs=4)
    steps = training_steps(state, iter(RandomBatches()), 3, schedule, first_epoch=2)
    found = [state.optimizer.param_groups[0]["lr"] for _ in islice(steps, 9)]
    assert found == pytest.approx([0.2] * 3 + [0.3] * 3 + [0.4] * 3)


@pytest.mark.parametrize("fused", [False, True])
def test_a_learning_rate_that_is_a_tensor_changes_in_place(fused: bool) -> None:
    as_number, as_tensor = build_state(), build_state()
    for state, rate in ((as_number, 0.1), (as_tensor, torch.tensor(0.1))):
        optimizer = torch.optim.SGD(state.model.parameters(), rate, 0.9, nesterov=True, fused=fused)
        state = replace(state, optimizer=optimizer)
        batches = iter(RandomBatches())
        for rate_now in (0.1, 0.05, 0.2):
            set_learning_rate(optimizer, rate_now)
            assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(rate_now)
            train_step(state, batches)
        assert isinstance(rate, float) or optimizer.param_groups[0]["lr"] is rate
    for a, b in zip(as_number.model.parameters(), as_tensor.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_training_evaluates_on_schedule_and_ends_with_the_last_epoch() -> None:
    recorder = Recorder()
    outcome = run((0.1, 0.2, 0.3), (recorder,))
    assert (outcome.status, outcome.last_epoch) == ("unreached", 7)
    evaluations = [epoch for event, epoch in recorder.events if event == "evaluation"]
    assert evaluations == [2, 4, 6]
    assert [epoch for event, epoch in recorder.events if event == "epoch"] == [1, 2, 3, 4, 5, 6, 7]


def test_training_stops_at_the_threshold() -> None:
    outcome = run((0.1, 0.9))
    assert (outcome.status, outcome.last_epoch) == ("reached", 4)
    assert outcome.result is not None
    assert outcome.result.mean_dice == 0.9


@pytest.mark.parametrize("score", [0.0, math.nan])
def test_a_dice_lost_is_divergence(score: float) -> None:
    outcome = run((0.1, score, 0.5))
    assert (outcome.status, outcome.last_epoch) == ("diverged", 4)


def test_a_dice_not_yet_found_is_no_divergence_before_mlperfs_first_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run((0.0, 0.0, 0.1)).status == "unreached"
    # Epochs have six samples, and evaluations follow epochs 2, 4 and 6.
    monkeypatch.setattr("runtime.verdict.MLPERF_FIRST_EVALUATION", 24)
    outcome = run((0.0, 0.0, 0.1))
    assert (outcome.status, outcome.last_epoch) == ("diverged", 4)


def test_a_loss_that_is_not_finite_is_divergence_before_any_evaluation() -> None:
    recorder = Recorder()
    outcome = run((), (recorder,), lr=math.inf)
    assert (outcome.status, outcome.last_epoch) == ("diverged", 1)
    assert recorder.events == [("epoch", 1)]


def test_a_run_that_had_reached_its_target_has_nothing_left_to_do() -> None:
    outcome = run((), best_dice=0.95, first_epoch=4)
    assert (outcome.status, outcome.last_epoch) == ("reached", 3)


def test_a_first_epoch_can_be_the_rest_of_one() -> None:
    seen = []

    class Witness(Keeper):
        def after_step(self, place: Place, state: TrainState, settle: Callable[[], None]) -> None:
            seen.append((place.epoch, place.step))

    losses = []

    class Loss(Callback):
        def on_epoch_end(self, epoch: int, train_loss: float) -> None:
            losses.append(train_loss)

    start = {"first_epoch": 2, "first_step": 1, "first_losses": (100.0,)}
    run((0.2,), (Loss(),), epochs=2, keeper=Witness(WORLD, Signals()), **start)
    assert seen == [(2, 2), (2, 3)]
    assert losses[0] > 33, "the loss of the step before counts"


def test_the_first_lost_loss_is_named() -> None:
    named = []

    class Naming(Callback):
        def on_lost_loss(self, epoch: int, step: int, loss: float) -> None:
            named.append((epoch, step))

    assert run((), (Naming(),), lr=math.inf).status == "diverged"
    assert named == [(1, 2)], "the first step spoils the weights, and the second shows it"


def test_a_loss_scale_that_collapses_is_divergence() -> None:
    said = []

    class Naming(Callback):
        def on_scale_collapse(self, epoch: int, scale: float) -> None:
            said.append((epoch, scale))

    state = build_state(amp_dtype="float16")
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 0.5})
    outcome = run((), (Naming(),), epochs=1, state=state)
    assert (outcome.status, said) == ("diverged", [(1, 0.5)])


def test_an_optimizer_may_zero_its_gradients_as_apexs_do() -> None:
    class ApexShaped(torch.optim.SGD):
        def zero_grad(self) -> None:  # type: ignore[override]
            super().zero_grad()

    state = build_state()
    state = replace(state, optimizer=ApexShaped(state.model.parameters(), lr=0.1))
    train_step(state, iter(RandomBatches()))
    assert all(p.grad is None for p in state.model.parameters())


def test_memory_layouts_train_alike() -> None:
    losses = []
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        state = build_state()
        state.model.to(memory_format=memory_format)  # type: ignore[call-overload]
        batches = (
            Batch(image.contiguous(memory_format=memory_format), label) for image, label in RandomBatches()
        )
        steps = training_steps(state, batches, 3, LearningRate(base=0.05))
        losses.append([loss.item() for loss in islice(steps, 5)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
