"""An evaluation of several volumes, in batches of windows."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest
import torch

from model.losses import DiceCELoss, DiceScore
from model.unet3d import Unet3D
from pipelines.base import Volume
from runtime.distributed_utils import World
from runtime.errors import Stopped
from runtime.inference import Evaluator, sliding_window_inference
from runtime.precision import Precision


class Volumes:
    """An evaluation loader of volumes of different sizes."""

    def __init__(self, count: int) -> None:
        self._shapes = [(16 + 3 * i, 20, 33 - i) for i in range(count)]

    def __iter__(self) -> Iterator[Volume]:
        for i, shape in enumerate(self._shapes):
            generator = torch.Generator().manual_seed(i)
            label = torch.randint(3, (1, 1, *shape), dtype=torch.uint8, generator=generator)
            yield Volume(f"case_{i:05d}", torch.randn(label.shape, generator=generator), label)

    def __len__(self) -> int:
        return len(self._shapes)

    def close(self) -> None:
        """Nothing to stop."""


def evaluator(batch_size: int, backend: Literal["reference", "triton"] = "reference") -> Evaluator:
    return Evaluator(
        loader=Volumes(3),
        loss_fn=DiceCELoss(),
        score_fn=DiceScore(),
        roi_shape=(16, 16, 16),
        overlap=0.5,
        precision=Precision("cpu"),
        world=World(torch.device("cpu")),
        val_batch_size=batch_size,
        backend=backend,
    )


def test_an_evaluation_scores_each_case_by_its_own_windows() -> None:
    model = Unet3D(1, 3, filters=(4, 8))
    found = evaluator(5)(model)
    assert model.training
    assert found.num_cases == 3
    scores, losses = [], []
    with torch.inference_mode():
        for _, image, label in Volumes(3):
            logits, label = sliding_window_inference(image, label, (16, 16, 16), model.eval())
            scores.append(DiceScore()(logits, label))
            losses.append(DiceCELoss()(logits, label))
    kidney, tumour = torch.stack(scores).mean(dim=0).tolist()
    assert (found.kidney_dice, found.tumour_dice) == pytest.approx((kidney, tumour), rel=1e-4)
    assert found.loss == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_an_evaluation_does_not_depend_on_the_batch_size(backend: Literal["reference", "triton"]) -> None:
    pytest.importorskip("triton")
    model = Unet3D(1, 3, filters=(4, 8))
    expected, sizes = evaluator(1)(model), []
    model.register_forward_hook(lambda _, windows, logits: sizes.append(len(logits)))
    found = evaluator(4, backend)(model)
    assert max(sizes) == 4
    assert found.as_reference_metrics() == pytest.approx(expected.as_reference_metrics(), rel=1e-4)


def test_an_evaluation_adds_windows_up_as_it_is_told() -> None:
    with pytest.raises(ValueError, match="backend must be reference or triton, found 'other'"):
        evaluator(1, "other")(Unet3D(1, 3, filters=(4, 8)))  # type: ignore[arg-type]


def test_a_signal_gives_an_evaluation_up_in_the_midst_of_a_volume() -> None:
    model, forwards = Unet3D(1, 3, filters=(4, 8)), []
    model.register_forward_hook(lambda *ignored: forwards.append(1))
    stopping = replace(evaluator(2), asked_to_stop=lambda: 15 if len(forwards) >= 2 else 0)
    with pytest.raises(Stopped) as stopped:
        stopping(model)
    assert stopped.value.signal == 15
    assert len(forwards) == 2
    assert model.training
