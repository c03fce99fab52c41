"""The step and the loop on a network small enough to train in milliseconds."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.losses import DiceCELoss
from model.unet3d import Unet3D
from pipelines.base import Batch
from runtime.callbacks import Callback, CheckpointCallback
from runtime.checkpoint import read_checkpoint
from runtime.distributed_utils import World
from runtime.evaluation import InTurn
from runtime.inference import EvalResult
from runtime.logging import RunLog
from runtime.optimizers import set_learning_rate
from runtime.precision import Precision
from runtime.schedule import EvaluationSchedule, LearningRate
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
    **start: int,
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
    return train(build_state(), RandomBatches(), InTurn(Scores(*scores), log), plan, callbacks, log, WORLD)  # type: ignore[arg-type]


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


def test_the_checkpoint_holds_the_best_and_the_latest(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pth"
    states: dict[int, dict[str, Tensor]] = {}

    class Witness(Callback):
        def on_evaluation(self, epoch: int, result: EvalResult, train_loss: float, state: TrainState) -> None:
            states[epoch] = {k: v.clone() for k, v in state.model.state_dict().items()}

    run((0.2, 0.6, 0.4), (CheckpointCallback(path, seed=11), Witness()))
    checkpoint = read_checkpoint(path)
    assert checkpoint["seed"] == 11
    assert (checkpoint["epoch"], checkpoint["last_epoch"]) == (4, 6)
    assert checkpoint["mean_dice"] == pytest.approx(0.6)
    assert {"L1 dice", "L2 dice", "eval_loss", "train_loss"} <= set(checkpoint)
    for prefix, epoch in (("best", 4), ("last", 6)):
        found = checkpoint[f"{prefix}_model_state_dict"]
        assert all(torch.equal(found[k], v) for k, v in states[epoch].items())
        assert checkpoint[f"{prefix}_optimizer_state_dict"]["state"]


def test_a_checkpoint_in_mid_epoch_says_where_to_go_on(tmp_path: Path) -> None:
    path, state = tmp_path / "c.pth", build_state()
    saving = CheckpointCallback(path, seed=1, stream={"data": "float32"}, every_steps=4)

    def places() -> list[tuple[int, int]]:
        found = []
        for epoch in (1, 2, 3):
            for step in (1, 2, 3, 4):
                path.unlink(missing_ok=True)
                if step < 4:
                    saving.on_step_end(epoch, step, state)
                else:
                    saving.on_epoch_end(epoch, 0.5)
                if path.exists():
                    checkpoint = read_checkpoint(path)
                    assert checkpoint["stream"] == {"data": "float32"}
                    found.append((checkpoint["last_epoch"], checkpoint["last_step"]))
        return found

    # Due at a border of epochs, which belongs to evaluations: one step later, and four steps from there.
    assert places() == [(1, 1), (2, 1)]


def test_a_first_epoch_can_be_the_rest_of_one() -> None:
    seen = []

    class Witness(Callback):
        def on_step_end(self, epoch: int, step: int, state: TrainState) -> None:
            seen.append((epoch, step))

    run((0.2,), (Witness(),), epochs=2, first_epoch=2, first_step=1)
    assert seen == [(2, 2)]


def test_a_diverged_evaluation_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pth"
    assert run((0.5, 0.0), (CheckpointCallback(path, seed=1),)).status == "diverged"
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
