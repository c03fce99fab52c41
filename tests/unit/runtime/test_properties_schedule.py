"""What holds for every learning rate and every evaluation point."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.spec import TRAIN_SAMPLES
from runtime.schedule import EvaluationSchedule, LearningRate, blocks, mlperf_evaluation

evaluations = st.builds(EvaluationSchedule, start=st.integers(1, 60), every=st.integers(1, 15))


def naive_rate(schedule: LearningRate, epoch: int) -> float:
    """The reference's rule, epoch by epoch: a ramp that sets the rate, and factors that change it."""
    rate = schedule.base
    for now in range(1, epoch + 1):
        # The scheduler steps after each epoch, by its own count of epochs.
        for _ in range(schedule.decay_epochs.count(now - 1)):
            rate *= schedule.decay_factor
        if now <= schedule.warmup_epochs:
            rate = schedule.initial + (schedule.base - schedule.initial) * now / schedule.warmup_epochs
    return rate


@settings(max_examples=100)
@given(
    st.builds(
        LearningRate,
        base=st.floats(0.01, 4),
        initial=st.floats(0, 4),
        warmup_epochs=st.integers(0, 15),
        decay_epochs=st.lists(st.integers(1, 30), max_size=5).map(tuple),
        decay_factor=st.floats(0.1, 1),
    )
)
def test_the_learning_rate_is_the_naive_one(schedule: LearningRate) -> None:
    for epoch in range(1, 36):
        assert schedule.at(epoch) == pytest.approx(naive_rate(schedule, epoch), rel=1e-12)
        assert schedule.at(epoch) <= max(schedule.base, schedule.initial) * (1 + 1e-12)


@settings(max_examples=100)
@given(st.integers(1, 20_000))
def test_mlperfs_points_are_the_first_epochs_with_enough_samples(samples: int) -> None:
    found = mlperf_evaluation(samples)
    for epochs, wanted in ((found.start, 1000 * TRAIN_SAMPLES), (found.every, 20 * TRAIN_SAMPLES)):
        assert (epochs - 1) * samples < wanted <= epochs * samples
        assert epochs == math.ceil(wanted / samples)


@settings(max_examples=100)
@given(evaluations, st.integers(1, 80), st.data())
def test_a_run_that_goes_on_evaluates_where_the_whole_one_does(
    evaluation: EvaluationSchedule, last: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, last))
    whole, rest = list(blocks(1, last, evaluation)), list(blocks(first, last, evaluation))
    assert [epoch for block in rest for epoch in block.epochs] == list(range(first, last + 1))
    evaluated = {block.epochs[-1] for block in whole if block.evaluates}
    assert {block.epochs[-1] for block in rest if block.evaluates} == {e for e in evaluated if e >= first}
    # Its blocks are the whole run's, but for the one that it begins in.
    ends = [block.epochs[-1] for block in whole]
    assert [block.epochs[-1] for block in rest] == [end for end in ends if end >= first]
