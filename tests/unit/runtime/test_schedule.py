"""Learning rates against torch's own scheduler driven as the reference drives it; evaluation points."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.schedule import EvaluationSchedule, LearningRate, blocks, mlperf_evaluation


def rates_of_the_reference(schedule: LearningRate, epochs: int) -> list[float]:
    """The reference's loop: a ramp that writes the rate, and a MultiStepLR stepped after each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=schedule.base)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, milestones=list(schedule.decay_epochs), gamma=schedule.decay_factor
    )
    rates = []
    for epoch in range(1, epochs + 1):
        if epoch <= schedule.warmup_epochs:
            scale = epoch / schedule.warmup_epochs
            optimizer.param_groups[0]["lr"] = schedule.initial + (schedule.base - schedule.initial) * scale
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@given(
    warmup=st.integers(0, 12),
    milestones=st.lists(st.integers(1, 25), max_size=4),
    base=st.floats(0.01, 4),
    factor=st.floats(0.1, 1),
)
def test_learning_rate_is_the_references(
    warmup: int, milestones: list[int], base: float, factor: float
) -> None:
    schedule = LearningRate(
        base=base, warmup_epochs=warmup, decay_epochs=tuple(milestones), decay_factor=factor
    )
    ours = [schedule.at(epoch) for epoch in range(1, 31)]
    assert ours == pytest.approx(rates_of_the_reference(schedule, 30), rel=1e-12)


def test_learning_rate_of_the_seed_documents_examples() -> None:
    decay = LearningRate(base=1.0, decay_epochs=(1000, 2000), decay_factor=0.1)
    assert [decay.at(e) for e in (1, 1000, 1001, 2000, 2001)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    ramp = LearningRate(base=1.0, initial=1e-4, warmup_epochs=200)
    assert ramp.at(1) == pytest.approx(1e-4 + 0.9999 / 200)
    assert ramp.at(200) == ramp.at(201) == 1.0


@pytest.mark.parametrize(
    ("samples_per_epoch", "start", "every"),
    [(168, 1000, 20), (160, 1050, 21), (192, 875, 18), (4, 42000, 840)],
)
def test_mlperf_evaluation_points(samples_per_epoch: int, start: int, every: int) -> None:
    # 1050/21 and 875/18 are what the reference's README and Google's v1.0 submission log for batch 32.
    assert mlperf_evaluation(samples_per_epoch) == EvaluationSchedule(start=start, every=every)


@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 30), st.integers(1, 9))
def test_blocks_cover_every_epoch_once_and_end_at_evaluations(
    first: int, last: int, start: int, every: int
) -> None:
    evaluation = EvaluationSchedule(start=start, every=every)
    found = list(blocks(first, last, evaluation))
    assert [epoch for block in found for epoch in block.epochs] == list(range(first, last + 1))
    due = [epoch for epoch in range(first, last + 1) if epoch >= start and (epoch - start) % every == 0]
    assert [block.epochs[-1] for block in found if block.evaluates] == due
    # Between evaluations, and before the first, there are as many epochs.
    assert all(len(block.epochs) == every for block in found[1:-1])
    assert all(len(block.epochs) <= every for block in found)
