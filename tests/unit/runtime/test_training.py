"""The step and the loop on a network small enough to train in milliseconds."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.losses import DiceCELoss
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime.callbacks import Callback, CheckpointCallback, States
from runtime.checkpoint import read_checkpoint
from runtime.checkpoint_writer import CheckpointWriter
from runtime.distributed_utils import World
from runtime.errors import Stopped
from runtime.evaluation import InTurn
from runtime.inference import EvalResult
from runtime.keeper import Keeper, Place
from runtime.logging import RunLog
from runtime.optimizers import set_learning_rate
from runtime.precision import Precision
from runtime.schedule import EvaluationSchedule, LearningRate, SaveEvery
from runtime.signals import Signals
from runtime.state import TrainState
from runtime.training import Outcome, TrainingPlan, train, train_step, training_steps

WORLD = World(torch.device("cpu"))


def build_state(ga_steps: int = 1, amp_dtype: str | None = None) -> TrainState:
    torch.manual_seed(0)
    model = Unet3D(1, 3, filters=(2, 4))
    precision = Precision("cpu", amp_dtype is not None, amp_dtype or "float16")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return TrainState(model, DiceCELoss(), optimizer, precision.scaler(), precision, ga_steps)


class RandomBatches:
    """The same stream of random patches for a seed, in batches of a size."""

    def __init__(self, batch_size: int = 2, batches_per_epoch: int = 3) -> None:
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(5)

        def patches() -> Iterator[tuple[Tensor, Tensor]]:
            while True:
                image = torch.randn(1, 1, 8, 8, 8, generator=generator)
                yield image, (image > 0.5).to(torch.uint8) + (image > 1).to(torch.uint8)

        stream = patches()
        while True:
            images, labels = zip(*islice(stream, self.batch_size), strict=True)
            yield Batch(torch.cat(images), torch.cat(labels))

    def __len__(self) -> int:
        return self.batches_per_epoch

    def close(self) -> None:
        pass


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


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def on_epoch_end(self, epoch: int, train_loss: float) -> None:
        self.events.append(("epoch", epoch))

    def on_evaluation(self, epoch: int, result: EvalResult, train_loss: float, state: TrainState) -> None:
        self.events.append(("evaluation", epoch))


class Scores:
    """An evaluator that returns prepared mean Dice scores in turn."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def __call__(self, model: nn.Module) -> EvalResult:
        score = self.scores.pop(0)
        return EvalResult(score, score, 0.5, 1)


def run(
    scores: tuple[float, ...],
    callbacks: tuple[Callback, ...] = (),
    lr: float = 0.01,
    epochs: int = 7,
    keeper: Keeper | None = None,
    **start: Any,
) -> Outcome:
    plan = TrainingPlan(
        epochs=epochs,
        steps_per_epoch=3,
        samples_per_epoch=6,
        learning_rate=LearningRate(base=lr),
        evaluation=EvaluationSchedule(start=2, every=2),
        quality_threshold=0.9,
        **start,
    )
    log = RunLog()
    keeper = keeper or Keeper(WORLD, Signals())
    evaluations = InTurn(Scores(*scores), log)  # type: ignore[arg-type]
    return train(build_state(), RandomBatches(), evaluations, plan, callbacks, log, WORLD, keeper)  # type: ignore[arg-type]


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


def saving_to(path: Path, **stream: str) -> CheckpointCallback:
    return CheckpointCallback(CheckpointWriter(path, 2, print), seed=11, stream=stream)


def test_the_checkpoint_holds_the_best_and_the_latest(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pth"
    states: dict[int, dict[str, Tensor]] = {}

    class Witness(Callback):
        def on_evaluation(self, epoch: int, result: EvalResult, train_loss: float, state: TrainState) -> None:
            states[epoch] = {k: v.clone() for k, v in state.model.state_dict().items()}

    run((0.2, 0.6, 0.4), (saving := saving_to(path), Witness()))
    saving.say_saved()
    checkpoint = read_checkpoint(path)
    assert checkpoint["seed"] == 11
    assert (checkpoint["epoch"], checkpoint["last_epoch"]) == (4, 6)
    assert checkpoint["mean_dice"] == pytest.approx(0.6)
    assert {"L1 dice", "L2 dice", "eval_loss", "train_loss"} <= set(checkpoint)
    for prefix, epoch in (("best", 4), ("last", 6)):
        found = checkpoint[f"{prefix}_model_state_dict"]
        assert all(torch.equal(found[k], v) for k, v in states[epoch].items())
        assert checkpoint[f"{prefix}_optimizer_state_dict"]["state"]


class Places(CheckpointCallback):
    """Notes what is saved and does not write it."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int, int]] = []

    def save(self, epoch: int, state: States, step: int = 0, losses: Sequence[Sequence[float]] = ()) -> None:
        self.found.append((epoch, step, len(losses[0])))


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (SaveEvery(steps=4), [(1, 1, 1), (2, 2, 2), (3, 3, 3)]),
        (SaveEvery(steps=3), [(0, 3, 3), (1, 3, 3), (2, 3, 3), (3, 3, 3)]),
        (SaveEvery(epochs=2), [(1, 3, 3), (3, 3, 3)]),
        (SaveEvery(epochs=2, steps=5), [(1, 2, 2), (1, 3, 3), (3, 2, 2), (3, 3, 3)]),
        (SaveEvery(minutes=1e9), []),
        (SaveEvery(), []),
    ],
)
def test_checkpoints_come_when_they_are_due(every: SaveEvery, expected: list[tuple[int, int, int]]) -> None:
    places = Places()
    run((0.1, 0.2), epochs=4, keeper=Keeper(WORLD, Signals(), saves=True, saving=places, every=every))
    assert places.found == expected


def test_minutes_are_those_of_a_clock_that_does_not_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 50))  # a step takes 50 s, with two looks at the clock where one is saved
    monkeypatch.setattr("runtime.keeper.time", SimpleNamespace(monotonic=lambda: next(now)))
    places = Places()
    every = SaveEvery(minutes=2)
    run((0.1,), epochs=2, keeper=Keeper(WORLD, Signals(), saves=True, saving=places, every=every))
    assert places.found == [(0, 3, 3), (1, 3, 3)]


def test_a_signal_ends_training_after_the_step_and_saves(tmp_path: Path) -> None:
    signals, path = Signals(), tmp_path / "c.pth"

    class Asking(Callback):
        def on_epoch_end(self, epoch: int, train_loss: float) -> None:
            signals.received = 15

    keeper = Keeper(WORLD, signals, saves=True, saving=saving_to(path, data="float32"))
    with pytest.raises(Stopped) as stopped:
        run((), (Asking(),), keeper=keeper)
    assert stopped.value.signal == 15
    checkpoint = read_checkpoint(path)
    assert (checkpoint["last_epoch"], checkpoint["last_step"]) == (1, 1)
    assert checkpoint["stream"] == {"data": "float32"}


def test_an_evaluation_that_was_given_up_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pth"

    class GivesUp(Scores):
        def __call__(self, model: nn.Module) -> EvalResult:
            raise Stopped(10)

    keeper = Keeper(WORLD, Signals(), saves=True, saving=saving_to(path))
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "Scores", GivesUp)
        with pytest.raises(Stopped):
            run((), keeper=keeper)
    checkpoint = read_checkpoint(path)
    assert (checkpoint["last_epoch"], checkpoint["last_step"]) == (1, 3)
    recorder = Recorder()
    run((0.1,), (recorder,), epochs=2, first_epoch=2, first_step=3, first_losses=checkpoint["last_losses"][0])
    assert recorder.events == [("epoch", 2), ("evaluation", 2)]


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "build_state", lambda: state)
        outcome = run((), (Naming(),), epochs=1)
    assert (outcome.status, said) == ("diverged", [(1, 0.5)])


def test_a_diverged_evaluation_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pth"
    assert run((0.5, 0.0), (saving := saving_to(path),)).status == "diverged"
    saving.say_saved()
    assert read_checkpoint(path)["last_epoch"] == 2


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
