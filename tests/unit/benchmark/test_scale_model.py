"""Predictions: from a measurement to itself and beyond, and time to train."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.scale.convergence import SAMPLE_RULESETS, course, course_of, smallest_and_largest
from benchmark.scale.measured import Measured, StepTime
from benchmark.scale.model import Model, Settings
from benchmark.scale.network import DGX_H100
from benchmark.scale.prediction import Layout, evaluation_seconds, predict, startup_seconds
from benchmark.scale.published import EVALUATION_IMAGES, V21_STARTUP_S, V30_54_HANDOVER_S, V30_54_STARTUP_S
from benchmark.scale.step_time import BACKWARD, Computing, Overlap, Reduction, computing, fixed_share
from pipelines.errors import DataError
from runtime.rcp import load_rcps

SETTINGS = Settings(network=DGX_H100, gradient_dtype="float32", gpus_per_node=8, ruleset="4.0.0")
INTERVAL = StepTime(0.09, 0.089, 0.092)


def layout(nodes: int = 1, evaluation_nodes: int = 0, batch: int = 7) -> Layout:
    return Layout(nodes=nodes, gpus_per_node=8, evaluation_nodes=evaluation_nodes, batch=batch)


def measured(seconds: float = 0.09, batch: int = 7, ranks: int = 8) -> Measured:
    return Measured(ranks=ranks, steps={batch: StepTime(seconds)})


@given(st.floats(0.005, 10), st.integers(1, 12), st.sampled_from([1, 2, 4]))
def test_a_measured_layout_is_predicted_as_it_was_measured(seconds: float, batch: int, nodes: int) -> None:
    band = Model(measured(seconds, batch, 8 * nodes), SETTINGS).predict(layout(nodes, batch=batch))
    for found in (band.none, band.full):
        assert found.images_per_s == pytest.approx(8 * nodes * batch / seconds)


@given(st.floats(0.005, 10), st.integers(1, 8))
def test_overlap_never_makes_a_step_slower(seconds: float, nodes: int) -> None:
    band = Model(measured(seconds, ranks=1), SETTINGS).predict(layout(nodes, batch=1))
    assert band.full.images_per_s >= band.none.images_per_s
    own = band.none.step_s - band.none.reduce_s
    hidden = min(band.none.reduce_s, BACKWARD * own)
    assert band.full.step_s == pytest.approx(band.none.step_s - hidden)


@given(st.floats(1e-4, 10), st.floats(1e-5, 1.0), st.sampled_from(Overlap))
def test_what_the_all_reduce_added_is_taken_out_again(own: float, reducing: float, overlap: Overlap) -> None:
    reduction = Reduction(network=DGX_H100, gradient_dtype="float16", overlap=overlap)
    step = own + reduction.added(own, reducing)
    assert reduction.without(step, reducing) == pytest.approx(own, rel=1e-6)


def test_the_interval_goes_through() -> None:
    band = Model(Measured(ranks=8, steps={7: INTERVAL}), SETTINGS).predict(layout())
    assert band.slowest is not None
    assert band.fastest is not None
    assert band.slowest.images_per_s == pytest.approx(56 / 0.092)
    assert band.fastest.images_per_s == pytest.approx(56 / 0.089)
    assert Model(measured(), SETTINGS).predict(layout()).slowest is None


def test_a_step_shorter_than_its_all_reduce_is_refused() -> None:
    with pytest.raises(DataError, match=r"shorter than the .* ms that the model gives its all-reduce"):
        Model(measured(1e-4), SETTINGS)
    with pytest.raises(DataError, match="--gpus_per_node 8 does not divide the 12 ranks"):
        Model(measured(ranks=12), SETTINGS)


def test_one_batch_leans_on_the_published_share() -> None:
    found = computing({7: 0.1})
    assert 0.01 < fixed_share() < 0.03
    assert found.seconds(7) == 0.1
    assert found.seconds(1) == pytest.approx(0.1 * (fixed_share() + (1 - fixed_share()) / 7))
    assert computing({2: 0.1}).seconds(4) < 0.2


def test_two_batches_give_a_line_and_a_third_stays_as_measured() -> None:
    found = computing({1: 0.02, 4: 0.049, 7: 0.08})
    assert found.seconds(4) == 0.049
    assert found.seconds(5) == pytest.approx(0.06)
    # Not worse than in proportion: a step of no images takes no negative time.
    steep = computing({1: 0.01, 7: 0.14})
    assert (steep.per_step, steep.seconds(2)) == (0.0, pytest.approx(0.04))
    assert computing({1: 0.2, 7: 0.1}).seconds(3) == 0.1


@pytest.mark.parametrize("ruleset", SAMPLE_RULESETS)
def test_samples_are_those_of_the_reference_points(ruleset: str) -> None:
    point = next(point for point in load_rcps(ruleset) if point.batch_size == 56)
    found = course(ruleset, 56)
    assert found is not None
    assert (found.samples, found.first, found.every, found.remark) == (point.mean, 168_000, 3360, "")
    assert found.evaluations == pytest.approx(1 + (point.mean - 168_000) / 3360)


def test_outside_of_the_reference_points() -> None:
    assert smallest_and_largest("4.0.0") == (28, 84)
    assert course("4.0.0", 85) is None
    below, between = course("4.0.0", 8), course("4.0.0", 70)
    assert below is not None
    assert between is not None
    assert below.remark == "below the reference points: samples are those of global batch 28"
    assert below.samples == load_rcps("4.0.0")[0].mean
    assert between.samples == pytest.approx((357404.444 + 416640) / 2)
    assert course_of(80, 1.0).samples == 240 * 700


def run(where: Layout, case_s: float = 0.2) -> tuple[float, float]:
    """Minutes, and the seconds that evaluations add, of 8 or more GPUs that take 0.1 s for a step."""
    free = Reduction(network=DGX_H100, gradient_dtype="float32", overlap=Overlap.FULL)
    found = predict(where, Computing({}, 0.1, 0.0), free, course_of(where.global_batch, 200_000), case_s)
    assert found.minutes is not None
    assert found.waiting_s is not None
    return found.minutes, found.waiting_s


EVALUATIONS = 1 + 32_000 / 3360


def test_evaluations_in_turn_are_added() -> None:
    minutes, waiting = run(layout())
    assert waiting == pytest.approx(EVALUATIONS * 6 * 0.2)
    assert minutes == pytest.approx((V21_STARTUP_S + 200_000 / 560 + waiting) / 60)


def test_evaluations_beside_training_add_the_last_one_and_what_is_not_over_in_time() -> None:
    beside = layout(2, evaluation_nodes=1)
    _, waiting = run(beside)
    assert waiting == pytest.approx((EVALUATIONS - 1) * V30_54_HANDOVER_S + 1.2)
    _, waiting = run(beside, case_s=2.0)
    assert waiting == pytest.approx((EVALUATIONS - 1) * (12.0 - 6.0) + 12.0)


def test_evaluation_is_estimated_from_the_step_and_never_shorter_than_a_case() -> None:
    found = Model(measured(ranks=1), SETTINGS).predict(layout()).none
    assert found.evaluation_s == pytest.approx(EVALUATION_IMAGES / 56 * 0.09)
    assert evaluation_seconds(0.5, 16) == 1.5
    assert evaluation_seconds(0.5, 42) == evaluation_seconds(0.5, 100) == 0.5


def test_start_up_is_as_published_at_both_ends() -> None:
    assert startup_seconds(1) == pytest.approx(V21_STARTUP_S)
    assert startup_seconds(42) == pytest.approx(V30_54_STARTUP_S)
    assert V30_54_STARTUP_S > startup_seconds(84) > 1.0
