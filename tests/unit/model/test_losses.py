"""Loss and score: limits that Dice and cross entropy must meet, and what is refused."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model.losses import DiceCELoss, DiceScore, _count


def perfect(label: torch.Tensor, scale: float = 30.0) -> torch.Tensor:
    """Logits that are sure of ``label``."""
    return torch.nn.functional.one_hot(label.squeeze(1).long(), 3).movedim(-1, 1).float() * scale


def test_a_perfect_prediction_has_no_loss_and_full_score() -> None:
    label = torch.randint(0, 3, (2, 1, 4, 4, 4), dtype=torch.uint8)
    assert DiceCELoss()(perfect(label), label).item() == pytest.approx(0, abs=1e-6)
    assert DiceScore()(perfect(label), label).tolist() == pytest.approx([1, 1])


def test_an_absent_class_scores_one_when_not_predicted_and_nothing_when_predicted() -> None:
    label = torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)
    assert DiceScore()(perfect(label), label).tolist() == [1, 1]
    wrong = perfect(torch.ones_like(label))
    kidney, tumour = DiceScore()(wrong, label).tolist()
    assert kidney == pytest.approx(0, abs=1e-6)
    assert tumour == 1


def test_the_background_is_left_out_unless_asked_for() -> None:
    label = torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)
    label[..., 0] = 1
    assert DiceScore()(perfect(label), label).shape == (2,)
    assert DiceScore(include_background=True)(perfect(label), label).shape == (3,)
    logits = torch.randn(1, 3, 4, 4, 4)
    assert not torch.equal(DiceCELoss()(logits, label), DiceCELoss(include_background=True)(logits, label))


def test_saturated_logits_stay_finite_in_value_and_gradient() -> None:
    label = torch.randint(0, 3, (1, 1, 4, 4, 4), dtype=torch.uint8)
    logits = (perfect((label + 1) % 3) * 1e3).requires_grad_()
    loss = DiceCELoss()(logits, label)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_logits_of_a_whole_patch_are_summed_in_float32(dtype: torch.dtype) -> None:
    label = torch.randint(0, 3, (1, 1, 64, 64, 64), dtype=torch.uint8)
    logits = torch.randn(1, 3, 64, 64, 64).to(dtype)
    with torch.autocast("cpu", dtype):
        loss = DiceCELoss()(logits, label)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(DiceCELoss()(logits.float(), label).item(), rel=1e-6)


def test_shapes_that_do_not_match_are_refused() -> None:
    label = torch.zeros(1, 1, 4, 4, 5, dtype=torch.uint8)
    with pytest.raises(ValueError, match="shape of the prediction"):
        DiceCELoss()(torch.zeros(1, 3, 4, 4, 4), label)
    with pytest.raises(ValueError, match="NCDHW, NDHWC"):
        DiceScore(layout="NHWC")


def one_hot_dice(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Hard Dice from one-hot volumes of float64, with the background."""
    likely = torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).movedim(-1, 1).double()
    given = torch.nn.functional.one_hot(label[:, 0].long(), logits.shape[1]).movedim(-1, 1).double()
    space = (2, 3, 4)
    numerator = 2 * (likely * given).sum(space) + 1e-6
    return (numerator / (likely.sum(space) + given.sum(space) + 1e-6)).mean(dim=0).float()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("slab", [1, 60, 150, 2**24])
def test_hard_dice_by_counting_is_that_of_one_hots(
    slab: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By slices of 60 voxels: one at a time, two (and a last one), or all."""
    monkeypatch.setattr("model.losses._SLAB_VOXELS", slab)
    logits, label = torch.randn(2, 4, 7, 5, 6), torch.randint(0, 3, (2, 1, 7, 5, 6), dtype=dtype)
    expected = one_hot_dice(logits, label)
    for layout, given in (
        ("NCDHW", (logits, label)),
        ("NDHWC", (logits.movedim(1, -1), label.movedim(1, -1))),
    ):
        assert torch.equal(DiceScore(layout=layout)(*given), expected[1:])
        assert torch.equal(DiceScore(include_background=True, layout=layout)(*given), expected)
    last = logits.contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(DiceScore()(last, label), expected[1:])


def test_a_large_volume_is_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no int64 copy of it is ever made."""
    monkeypatch.setattr("model.losses._SLAB_VOXELS", 300)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **kwargs or {})
            if not func.is_view:
                largest = max(largest, result.numel())
            return result

    logits, label = torch.randn(1, 3, 32, 10, 10), torch.ones(1, 1, 32, 10, 10, dtype=torch.uint8)
    with Watch():
        DiceScore()(logits, label)
    assert largest == 300


def test_more_voxels_than_float32_counts_are_counted() -> None:
    """2^24 + 1 of 2^24 + 2 voxels: a float32 sum of ones stays at 2^24."""
    size = 2**24 + 2
    label = torch.ones(1, 1, size, 1, 1, dtype=torch.uint8)
    label[0, 0, 0] = 0
    logits = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1).expand(1, 2, size, 1, 1)
    counts = _count(logits, label, first=0)
    assert counts[0, 0].tolist() == [0, size - 1]
    assert counts[1, 0].tolist() == [1, 2 * size - 1]
