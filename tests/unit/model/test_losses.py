"""Loss and score: limits that Dice and cross entropy must meet, and what is refused."""

import pytest
import torch

from model.losses import DiceCELoss, DiceScore


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
