"""What a continued run takes from its checkpoint, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.losses import DiceCELoss
from model.unet3d import Unet3D
from runtime.arguments import parse_arguments
from runtime.errors import RunError
from runtime.optimizers import OptimizerConfig, build_optimizer
from runtime.precision import Precision
from runtime.resume import Start, check_stream, restore, with_seed_of
from runtime.state import TrainState

PATH = Path("c.pth")


def state(
    name: str = "sgd", lr: float = 0.1, amp: bool = False, steps: int = 0, **options: Any
) -> TrainState:
    model = Unet3D(1, 3, filters=(2,))
    optimizer, _ = build_optimizer(model.parameters(), lr, OptimizerConfig(name=name, **options))
    precision = Precision("cpu", amp)
    for _ in range(steps):
        model(torch.randn(1, 1, 4, 4, 4)).square().sum().backward()
        optimizer.step()
    return TrainState(model, DiceCELoss(), optimizer, precision.scaler(), precision)


def checkpoint(**options: Any) -> dict[str, Any]:
    return state(steps=2, **options).state_dicts("last") | {"last_epoch": 5, "seed": 7}


@pytest.mark.parametrize("name", ["sgd", "adam", "lamb"])
def test_moments_are_taken_and_hyperparameters_are_not(name: str) -> None:
    saved = checkpoint(name=name, lr=0.1, weight_decay=0.5)
    new = state(name=name, lr=0.3, weight_decay=0.0)
    assert restore(new, saved, PATH).epoch == 6
    group = new.optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.0)
    assert group.get("step") == saved["last_optimizer_state_dict"]["param_groups"][0].get("step")
    kept = new.optimizer.state_dict()["state"]
    for index, moments in saved["last_optimizer_state_dict"]["state"].items():
        assert all(
            torch.equal(torch.as_tensor(kept[index][k]), torch.as_tensor(v)) for k, v in moments.items()
        )


@pytest.mark.parametrize(("saved", "asked"), [("sgd", "adam"), ("adam", "lamb"), ("lamb", "sgd")])
def test_another_optimizers_state_is_refused(saved: str, asked: str) -> None:
    with pytest.raises(RunError, match="--optimizer"):
        restore(state(name=asked), checkpoint(name=saved), PATH)


def test_a_scaler_that_was_off_starts_anew() -> None:
    new = state(amp=True)
    scale = new.scaler.get_scale()
    restore(new, checkpoint(amp=False), PATH)
    assert new.scaler.get_scale() == scale
    saved = checkpoint(amp=True)
    saved["last_scaler_state_dict"]["scale"] = 8.0
    restore(new, saved, PATH)
    assert new.scaler.get_scale() == 8.0


def test_a_checkpoint_without_a_last_state_can_only_be_evaluated() -> None:
    saved = {key: value for key, value in checkpoint().items() if key != "last_optimizer_state_dict"}
    with pytest.raises(RunError, match="only be evaluated"):
        restore(state(), saved, PATH)


def test_the_best_state_and_nothing_else_is_carried_on() -> None:
    best = {"best_model_state_dict": {}, "mean_dice": 0.7, "epoch": 4}
    start = restore(state(), checkpoint() | best | {"format_version": 1}, PATH)
    assert start.best == best
    assert start.best_dice == 0.7


def test_the_seed_is_the_continued_runs_unless_another_is_asked_for() -> None:
    said: list[str] = []
    config = parse_arguments(["--data_dir", "d"])
    assert with_seed_of({"seed": 7}, config, said.append).seed == 7
    assert with_seed_of({"seed": 7}, replace(config, seed=7), said.append).seed == 7
    assert with_seed_of({}, config, said.append).seed == -1
    assert said == []
    assert with_seed_of({"seed": 7}, replace(config, seed=8), said.append).seed == 8
    assert len(said) == 1


def test_a_run_goes_on_at_the_step_it_was_saved_at() -> None:
    saved = checkpoint() | {"last_step": 3, "stream": {"data": "float32"}}
    start = restore(state(), saved, PATH)
    assert (start.epoch, start.step, start.stream) == (6, 3, {"data": "float32"})
    assert "stream" not in start.best
    assert start.losses == ()
    saved |= {"last_losses": [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]}
    start = restore(state(), saved, PATH)
    assert start.losses_of(1, 2) == (3.0, 4.0, 5.0)
    assert start.losses_of(0, 1) == (2.0, 3.0, 4.0), "the mean over ranks is what counts"
    before = restore(state(), checkpoint(), PATH)
    assert (before.epoch, before.step, before.stream) == (6, 0, {}), "as older versions saved it"


def test_other_samples_are_noted_at_a_border_and_refused_in_mid_epoch() -> None:
    said: list[str] = []
    saved, now = {"sharding": "static", "ranks": "2"}, {"sharding": "global"}
    check_stream(Start(2, 0, saved), saved, PATH, said.append)
    check_stream(Start(2, 3, {}), now, PATH, said.append)
    assert said == []
    check_stream(Start(2, 0, saved), now, PATH, said.append)
    assert "sharding static, now global; ranks 2, now none" in said[0]
    with pytest.raises(RunError, match=r"c.pth: was written in mid-epoch with sharding static, now global"):
        check_stream(Start(2, 3, saved), now, PATH, said.append)


def test_the_rest_of_an_epoch_needs_its_seed() -> None:
    config = parse_arguments(["--data_dir", "d", "--seed", "5"])
    assert with_seed_of({"seed": 7, "last_step": 0}, config, lambda text: None).seed == 5
    assert with_seed_of({"seed": 5, "last_step": 2}, config, lambda text: None).seed == 5
    with pytest.raises(RunError, match="--seed 5 is not the continued run's 7, which was left in mid-epoch"):
        with_seed_of({"seed": 7, "last_step": 2}, config, lambda text: None)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"last_step": "a"}, {"last_losses": [[1.0]], "last_step": 3}, {"stream": 5}, {"last_epoch": None},
        {"last_optimizer_state_dict": {"state": {0: 5}, "param_groups": []}}, {"last_model_state_dict": 7},
        {"last_optimizer_state_dict": {"state": {}, "param_groups": [{}]}},
    ],
)  # fmt: skip
def test_a_state_nobody_wrote_is_one_sentence(spoilt: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=r"^c.pth: holds a state that no version of this program") as caught:
        restore(state(), checkpoint() | spoilt, PATH)
    assert "\n" not in str(caught.value)
