"""Numbers of runs, in the layouts of the rounds."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlperf_logging.result_summarizer.result_summarizer import _compute_olympic_average

from benchmark.mllog.figures import Run, figures
from benchmark.mllog.log import read_log
from benchmark.mllog.rates import BLOCKS, LOGGED, LONGEST_BLOCK
from benchmark.mllog.score import official_mean
from pipelines.errors import DataError
from tests.unit.benchmark.mllog_lines import Writer, nvidia, ours


def numbers(log: Writer, folder: Path) -> Run:
    return figures(read_log(log.save(folder / "result_0.txt")))


@pytest.mark.parametrize("in_samples", [True, False])
def test_nvidia_logs_of_all_rounds(tmp_path: Path, in_samples: bool) -> None:
    run = numbers(nvidia(52, in_samples=in_samples), tmp_path)
    seconds = 52 * 6 + 3 * 1.5
    assert run.minutes == pytest.approx(seconds / 60)
    assert run.samples == 52 * 20 * 168
    assert run.counts_samples is in_samples
    assert (run.images_per_s, run.estimator) == (560.0, LOGGED)
    assert run.end_to_end_images_per_s == pytest.approx(52 * 20 * 168 / seconds)
    assert run.evaluation_count == 3
    assert run.evaluation_share == pytest.approx(4.5 / seconds)
    assert (run.converged, run.first_epoch, run.evaluates_beside_training) == (True, 1, False)


@pytest.mark.parametrize("rates_logged", [True, False])
def test_what_happens_after_the_clock_stopped_does_not_count(tmp_path: Path, rates_logged: bool) -> None:
    log = nvidia(50)
    for cycle in range(51, 160):
        log.add("block_start", None, first_epoch_num=cycle * 3360, epoch_count=3360)
        log.wait(60)
        log.add("tracked_stats", {"throughput": 56.0}, step=cycle)
        log.add("block_stop", None, first_epoch_num=cycle * 3360, epoch_count=3360)
        log.add("eval_accuracy", 0.95, epoch_num=cycle * 3360)
    if not rates_logged:
        log.lines = [line for line in log.lines if "tracked_stats" not in line]
    run = numbers(log, tmp_path)
    assert run.images_per_s == pytest.approx(560.0)
    assert (run.evaluation_count, run.samples) == (1, 168_000)
    assert run.minutes == pytest.approx((50 * 6 + 1.5) / 60)


def test_small_runs_of_ours_count_samples(tmp_path: Path) -> None:
    run = numbers(ours(), tmp_path)
    assert run.counts_samples is True
    assert [(score.epoch, score.samples) for score in run.evaluations] == [(2, 8), (4, 16), (6, 24)]
    assert (run.images_per_s, run.estimator) == (pytest.approx(8.0), BLOCKS)
    assert run.end_to_end_images_per_s == pytest.approx(24 / (3 + 1.5))


def test_a_resumed_run_is_not_credited_with_the_samples_before_it(tmp_path: Path) -> None:
    run = numbers(ours(first_epoch=7), tmp_path)
    assert (run.first_epoch, run.samples) == (7, 48)
    assert run.end_to_end_images_per_s == pytest.approx(24 / (3 + 1.5))


def test_evaluations_inside_blocks_are_taken_out_of_their_time(tmp_path: Path) -> None:
    log = Writer()
    for first in (1, 21, 41):
        log.add("block_start", None, first_epoch_num=first, epoch_count=20)
        log.wait(10)
        log.add("throughput", 336.0)
        log.add("eval_start", first + 19, epoch_num=first + 19)
        log.wait(5)
        log.add("eval_accuracy", 0.9, epoch_num=first + 19)
        log.add("eval_stop", None, epoch_num=first + 19)
        log.add("block_stop", None, first_epoch_num=first + 19, epoch_count=20)
    log.stop()
    run = numbers(log, tmp_path)
    assert (run.images_per_s, run.estimator, run.evaluates_beside_training) == (336.0, LOGGED, False)
    log.lines = [line for line in log.lines if '"throughput"' not in line]
    run = numbers(log, tmp_path)
    assert (run.images_per_s, run.estimator) == (pytest.approx(336.0), BLOCKS)


def test_epochs_of_the_reference(tmp_path: Path) -> None:
    log = Writer()
    for epoch in (1, 2, 3):
        log.add("block_start", None, first_epoch_num=epoch, epoch_count=1)
        log.add("epoch_start", None, epoch_num=epoch)
        log.wait(4)
        log.add("epoch_stop", None, epoch_num=epoch)
        log.wait(9)
        log.add("block_stop", None, first_epoch_num=epoch, epoch_count=1)
    run = numbers(log.stop("aborted"), tmp_path)
    assert (run.images_per_s, run.estimator) == (pytest.approx(168 / 4), BLOCKS)
    assert (run.samples, run.end_to_end_images_per_s, run.evaluation_share) == (None, None, 0)


def test_blocks_that_overlap_and_hold_unlogged_evaluations(tmp_path: Path) -> None:
    log = Writer(global_batch_size=32, samples_per_epoch=192)
    log.add("block_start", None, first_epoch_num=1, epoch_count=875)
    log.wait(600)
    log.add("block_stop", None, first_epoch_num=1, epoch_count=875)
    log.add("block_start", None, first_epoch_num=876, epoch_count=18)
    log.wait(16)
    log.add("eval_accuracy", 0.9, epoch_num=893)
    log.add("block_start", None, first_epoch_num=894, epoch_count=18)
    log.add("block_stop", None, first_epoch_num=876, epoch_count=18)
    log.wait(16)
    log.add("eval_accuracy", 0.909, epoch_num=911)
    log.add("block_stop", None, first_epoch_num=894, epoch_count=18)
    run = numbers(log.stop(), tmp_path)
    blocks = read_log(tmp_path / "result_0.txt").intervals("block")
    assert [block.seconds for block in blocks] == [600, 16, 16]
    assert (run.images_per_s, run.estimator) == (pytest.approx(875 * 192 / 600), LONGEST_BLOCK)
    assert (run.samples, run.evaluation_share) == (911 * 192, None)


@pytest.mark.parametrize("evaluation_s", [2.0, 9.0])
def test_evaluations_beside_training_are_seen(tmp_path: Path, evaluation_s: float) -> None:
    """Shorter and longer than the rest of the block in which they start."""
    log = Writer()
    log.add("block_start", None, first_epoch_num=1, epoch_count=20)
    log.wait(1)
    log.add("eval_start", 1000, epoch_num=1000)
    log.wait(min(evaluation_s, 5))
    if evaluation_s == 2.0:
        log.add("eval_stop", 1000, epoch_num=1000)
        log.wait(3)
        log.add("tracked_stats", {"throughput": 560.0})
    log.add("block_stop", None, first_epoch_num=1, epoch_count=20)
    if evaluation_s == 9.0:
        log.wait(4)
        log.add("eval_stop", 1000, epoch_num=1000)
    assert numbers(log.stop(), tmp_path).evaluates_beside_training


def test_without_samples_per_epoch_partial_batches_are_padded(tmp_path: Path) -> None:
    run = numbers(nvidia(in_samples=False, samples_per_epoch=None, global_batch_size=32), tmp_path)
    assert (run.samples_per_epoch, run.samples) == (192, 1040 * 192)


def test_success_below_the_target_is_no_convergence(tmp_path: Path) -> None:
    assert not numbers(nvidia(dice=0.9079), tmp_path).converged
    assert not numbers(nvidia(status="aborted"), tmp_path).converged
    assert numbers(nvidia(dice=0.908), tmp_path).converged


def test_a_score_that_is_no_number_is_still_an_evaluation(tmp_path: Path) -> None:
    run = numbers(nvidia(51, dice=float("nan"), status="aborted"), tmp_path)
    assert (run.evaluation_count, run.evaluations[-1].mean_dice, run.converged) == (2, None, False)


def test_noise_and_other_ways_to_write_the_same(tmp_path: Path) -> None:
    plain = numbers(nvidia(), tmp_path)
    log = nvidia()
    noisy = []
    for line in log.lines:
        content = json.loads(line.removeprefix(":::MLLOG "))
        turned = dict(reversed(content.items()))
        if not turned["metadata"]:
            turned["metadata"] = None
        turned["time_ms"] = str(turned["time_ms"])
        noisy += ["Epoch \x1b[0m 17", f"\udce9q:3: :::MLLOG {json.dumps(turned)} done in 3 s"]
    path = tmp_path / "noisy.log"
    path.write_text("\n".join(noisy), encoding="utf-8", errors="surrogateescape")
    found = figures(read_log(path))
    assert (found.minutes, found.samples, found.images_per_s) == (
        pytest.approx(plain.minutes),
        plain.samples,
        plain.images_per_s,
    )


def test_two_objects_on_one_line_are_both_read(tmp_path: Path) -> None:
    log = nvidia()
    log.lines = ["".join(log.lines)]
    assert numbers(log, tmp_path).evaluation_count == 3


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda lines: lines[:-1], "result_0.txt: has no run_stop: the run did not finish"),
        (lambda lines: lines[:-1] + [lines[-1][:60]], "truncated or garbled"),
        (lambda lines: lines[:-1] + [':::MLLOG {"key": "x"}'], "truncated or garbled"),
        (lambda lines: lines[:-1] + [':::MLLOG {"key": 3, "time_ms": 1}'], "of a wrong type"),
        (lambda lines: [], "holds no :::MLLOG line"),
        (lambda lines: [line for line in lines if "run_start" not in line], "has no run_start"),
        (lambda lines: lines + lines, "has 2 run_start, expected one run for each file"),
        (lambda lines: [line.replace("unet3d", "bert") for line in lines], "is a log of bert, expected"),
    ],
)  # fmt: skip
def test_broken_logs_are_named(
    tmp_path: Path, spoil: Callable[[list[str]], list[str]], sentence: str
) -> None:
    log = nvidia()
    log.lines = spoil(log.lines)
    with pytest.raises(DataError, match=sentence):
        numbers(log, tmp_path)


def test_a_run_that_stops_before_it_starts_is_broken(tmp_path: Path) -> None:
    log = Writer()
    log.wait(-1)
    with pytest.raises(DataError, match="not after its run_start"):
        numbers(log.stop(), tmp_path)


def test_the_official_mean_is_that_of_the_summarizer() -> None:
    values = [float(7 * n % 41) for n in range(40)]
    for converged in (0, 3, 8, 9, 20, 36, 40):
        for unconverged in range(6):
            ranked = values[:converged]
            # It asks for the average only then.
            wanted = _compute_olympic_average(list(ranked), unconverged, 4) if unconverged <= 4 else None
            assert official_mean(ranked, unconverged) == wanted
    assert official_mean(map(float, range(1, 41)), 0) == 20.5
    assert official_mean(map(float, range(1, 39)), 2) == pytest.approx(sum(range(5, 37)) / 32)
