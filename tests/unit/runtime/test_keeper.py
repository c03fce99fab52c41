"""When a run saves and stops, and what its checkpoints hold."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from runtime.callbacks import Callback, CheckpointCallback, States
from runtime.checkpoint import read_checkpoint
from runtime.errors import Stopped
from runtime.inference import EvalResult
from runtime.keeper import Keeper
from runtime.schedule import SaveEvery
from runtime.signals import Signals
from runtime.state import TrainState
from tests.unit.runtime.training_runs import WORLD, Recorder, run, saving_to


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


def test_an_evaluation_that_was_given_up_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"

    def gives_up(model: nn.Module) -> EvalResult:
        raise Stopped(10)

    keeper = Keeper(WORLD, Signals(), saves=True, saving=saving_to(path))
    with pytest.raises(Stopped):
        run((), keeper=keeper, evaluator=gives_up)
    checkpoint = read_checkpoint(path)
    assert (checkpoint["last_epoch"], checkpoint["last_step"]) == (1, 3)
    recorder = Recorder()
    run((0.1,), (recorder,), epochs=2, first_epoch=2, first_step=3, first_losses=checkpoint["last_losses"][0])
    assert recorder.events == [("epoch", 2), ("evaluation", 2)]


def test_a_diverged_evaluation_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pth"
    assert run((0.5, 0.0), (saving := saving_to(path),)).status == "diverged"
    saving.say_saved()
    assert read_checkpoint(path)["last_epoch"] == 2
