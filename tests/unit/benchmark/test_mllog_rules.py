"""Deviations from the closed division's schedule and settings."""

from pathlib import Path
from typing import Any

import pytest

from benchmark.mllog import rules
from benchmark.mllog.figures import figures
from benchmark.mllog.log import read_log
from tests.unit.benchmark.mllog_lines import Writer, nvidia, ours


def deviations(log: Writer, folder: Path) -> list[str]:
    read = read_log(log.save(folder / "result_0.txt"))
    return rules.of_run(read, figures(read))


def evaluated(epochs: list[int], **changed: Any) -> Writer:
    """A run with evaluations after ``epochs``, the last on target."""
    log = Writer(**changed)
    for epoch in epochs:
        log.wait(10)
        log.add("eval_accuracy", 0.91 if epoch == epochs[-1] else 0.8, epoch_num=epoch)
    return log.stop()


@pytest.mark.parametrize(
    "log",
    [
        nvidia(),
        nvidia(in_samples=False),
        nvidia(60, dice=0.5, status="aborted"),
        nvidia(opt_name="nag", training_input_shape=[128, 128, 128, 1]),
        evaluated([875, 893, 911], global_batch_size=32, samples_per_epoch=192),
        evaluated([700, 714], global_batch_size=80, samples_per_epoch=240),
        evaluated([1000, 1020], global_batch_size=32, samples_per_epoch=168),
    ],
)
def test_a_regular_run_has_none(tmp_path: Path, log: Writer) -> None:
    assert deviations(log, tmp_path) == []


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (nvidia(submission_division="open"), 'submission_division is "open", expected "closed"'),
        (nvidia(train_samples=167), "train_samples is 167, expected 168"),
        (nvidia(eval_samples=None), "logs no eval_samples, expected 42"),
        (nvidia(seed=None), "logs no seed"),
        (nvidia(opt_name="lamb"), 'opt_name is "lamb", expected "sgd" or "nag" or "momentum"'),
        (nvidia(oversampling=0.33), "oversampling is 0.33, expected 0.4"),
        (
            nvidia(validation_input_shape=[64, 64, 64]),
            "validation_input_shape is [64, 64, 64], expected [128, 128, 128]",
        ),
        (nvidia(validation_overlap=0.25), "validation_overlap is 0.25, expected 0.5"),
        (nvidia(dice=0.9), "claims success at a mean Dice of 0.9000, expected 0.908 at least"),
        (nvidia(status="aborted"), "reaches a mean Dice of 0.9100, but its status is aborted"),
        (
            evaluated([1000, 1018], global_batch_size=32, samples_per_epoch=192),
            "evaluates first after epoch 1000, expected 875 = CEIL(1000*168/192)",
        ),
        (
            evaluated([1000, 1020, 1030]),
            "epochs between evaluations are 10, expected 20 = CEIL(20*168/168)",
        ),
        (
            evaluated([875, 895], global_batch_size=32, samples_per_epoch=192),
            "epochs between evaluations are 20, expected 18 = CEIL(20*168/192)",
        ),
        (
            evaluated(list(range(168_000, 1_687_000, 3360))),
            "trains until epoch 10040, expected 10000 = CEIL(10000*168/168) at most",
        ),
        (
            evaluated([1050, 1071], global_batch_size=32, samples_per_epoch=160),
            "160 samples per epoch at a global batch size of 32 drop the last partial batch, which the rules "
            "do not list (the reference does it)",
        ),
        (
            evaluated([955, 975], global_batch_size=28, samples_per_epoch=176),
            "176 samples per epoch at a global batch size of 28, expected 168",
        ),
    ],
)
def test_each_deviation_is_one_sentence(tmp_path: Path, log: Writer, sentence: str) -> None:
    assert deviations(log, tmp_path) == [sentence]


def test_a_resumed_run_is_told_so_rather_than_that_it_evaluates_late(tmp_path: Path) -> None:
    found = deviations(ours(first_epoch=43001), tmp_path)
    assert "starts at epoch 43001, so that its time is not the time to train" in found
    assert not any("evaluates first" in sentence for sentence in found)


def test_runs_of_a_result_share_their_settings_but_not_their_seeds(tmp_path: Path) -> None:
    logs = [
        read_log(nvidia(seed=seed, opt_base_learning_rate=rate).save(tmp_path / f"result_{number}.txt"))
        for number, (seed, rate) in enumerate([(1, 2.0), (2, 2.0), (1, 1.5)])
    ]
    assert rules.of_set(logs, unfinished=37) == [
        "opt_base_learning_rate is 1.5 and 2.0, expected the same in all runs of a result",
        "seed 1 is that of result_0.txt, result_2.txt, expected another one in each run",
    ]
    assert rules.of_set(logs[:2], unfinished=0) == ["2 runs, expected 40"]
    assert rules.of_set(logs[:1], unfinished=0) == ["1 run, expected 40"]


def test_four_runs_may_miss_the_target() -> None:
    assert rules.too_many_unconverged(4) == []
    assert rules.too_many_unconverged(5) == ["5 runs did not converge, expected 4 at most"]
