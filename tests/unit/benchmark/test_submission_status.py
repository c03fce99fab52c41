"""How far a series of runs has come, and what its score is so far."""

import math
import random
import statistics
from pathlib import Path

import pytest

from benchmark.mllog.score import official_mean
from benchmark.submission.progress import read_progress
from benchmark.submission.trimmed import trimmed_mean
from pipelines.errors import DataError
from runtime.rcp import bar
from tests.unit.benchmark.forged_logs import EVALUATION_S, IMAGES_PER_S, drawn, forge, forge_set
from tests.unit.benchmark.submissions import submission


def status(folder: Path, capsys: pytest.CaptureFixture[str], *flags: object) -> list[str]:
    assert submission("status", folder, *flags) == 0
    return capsys.readouterr().out.splitlines()


def minutes(epochs: int) -> float:
    """Of a forged run, on the clock."""
    evaluations = (epochs - 1000) // 20 + 1
    return (epochs * 168 / IMAGES_PER_S + EVALUATION_S * evaluations) / 60


def test_nothing_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(tmp_path, capsys) == [
        "0 of 40 runs are done: 0 converged, 0 did not, 0 cannot be read; 0 under way",
        "time left: no run has ended yet, so that nothing tells how long one takes",
    ]


def test_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge_set(tmp_path, [1500])
    counts, score, convergence, *warning, left = status(tmp_path, capsys, "--runs", 5)
    assert counts == "1 of 5 runs are done: 1 converged, 0 did not, 0 cannot be read; 0 under way"
    assert score.startswith(f"time to train so far: {minutes(1500):.2f} minutes")
    assert "[" not in score.partition(",")[0]
    assert convergence.startswith(
        "to converge so far: 252,000 samples; the reference convergence point for a"
    )
    assert left == f"time left: about {4 * (minutes(1500) + 0.5):.0f} minutes"


def test_five_runs_one_of_them_under_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge_set(tmp_path, [1900, 2000, 2100, 2300])
    whole = forge(tmp_path / "run_4" / "unet3d.log", epochs=1200).read_text()
    # The end of a log that is being written may be half a line.
    stopped = whole.index("run_stop")
    (tmp_path / "run_4" / "unet3d.log").write_text(whole[: stopped - 60])
    (tmp_path / "run_5").mkdir()
    # A run with a result is not under way.
    forge(tmp_path / "run_0" / "unet3d.log", epochs=1000)
    lines = status(tmp_path, capsys)
    assert lines[0] == "4 of 40 runs are done: 4 converged, 0 did not, 0 cannot be read; 1 under way"
    assert lines[1].startswith("run 4: under way, mean Dice 0.9090 after 201,600 samples, ")
    assert lines[1].endswith("; its log was last written 0 minutes ago")
    assert lines[2].startswith("time to train so far: ")
    assert "minutes [" in lines[2]
    mean = statistics.fmean(map(minutes, [1900, 2000, 2100, 2300])) + 0.5
    begun = minutes(1200) + 0.5
    assert lines[-1] == f"time left: about {(36 * mean - begun) / 60:.1f} hours"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forge_set(tmp_path_factory.mktemp("many"), drawn(41))


@pytest.mark.parametrize("count", [39, 40, 41])
def test_nearly_forty_runs(
    count: int, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = drawn(41)[:count]
    for i in range(count):
        (tmp_path / f"result_{i}.txt").hardlink_to(many / f"result_{i}.txt")
    lines = status(tmp_path, capsys)
    assert lines[0].startswith(f"{count} of 40 runs are done: {count} converged")
    found = read_progress(tmp_path).minutes
    assert found is not None
    assert found.dropped == (3 if count == 39 else 4)
    if count == 40:
        assert found.mean == pytest.approx(official_mean(map(minutes, epochs), 0), rel=1e-4)
        assert not any("time left" in line for line in lines)
    if count == 41:
        assert lines[1] == "that is 1 more than are wanted, and a submission may not choose among them"


def test_runs_that_did_not_converge_or_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge_set(tmp_path, [1500] * 9)
    forge(tmp_path / "result_9.txt", epochs=1100, converges=False)
    assert read_progress(tmp_path).minutes is not None
    (tmp_path / "result_10.txt").write_text("Killed\n")
    lines = status(tmp_path, capsys)
    assert lines[0] == "11 of 40 runs are done: 9 converged, 1 did not, 1 cannot be read; 0 under way"
    assert any("result_10.txt: holds no :::MLLOG line" in line for line in lines)
    assert any("no time to train so far: 2 runs did not converge" in line for line in lines)


def test_a_run_that_stopped_without_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge(tmp_path / "run_3" / "unet3d.log", epochs=600, converges=False)
    forge_set(tmp_path, [1500])
    lines = status(tmp_path, capsys, "--runs", 2)
    assert lines[1].startswith("run 3: stopped as aborted, without a result, no evaluation in its first ")
    # It does not take from the time of the run that is left.
    assert lines[-1] == f"time left: about {minutes(1500) + 0.5:.0f} minutes"


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        (1900, "that is too fast: rcp_checker would refuse this mean"),
        (2060, f"the time would be multiplied by {bar('4.0.0', 56).mean / (168 * 2060):.4f}"),
        (2200, None),
    ],
)
def test_convergence_beside_the_reference(
    epochs: int, words: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge_set(tmp_path, [epochs, epochs + 20, epochs - 20])
    lines = status(tmp_path, capsys)
    assert any("is 357,404, and no mean below 334,053 is accepted" in line for line in lines)
    warned = [line for line in lines if "that is" in line]
    assert len(warned) == (words is not None)
    assert words is None or words in warned[0]


def test_epochs_before_ruleset_3_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge_set(tmp_path, [2000, 2100], ruleset="3.0.0")
    lines = status(tmp_path, capsys, "--ruleset", "3.0.0")
    assert any("to converge so far: 2,050 epochs [" in line for line in lines), lines


def test_batch_sizes_that_differ_or_have_no_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge_set(tmp_path, [1500], batch_size=168)
    assert any(
        "has no reference convergence point for a batch size of 168" in line
        for line in status(tmp_path, capsys)
    )
    forge(tmp_path / "result_1.txt", epochs=1500, batch_size=56)
    assert any(
        "of batch sizes [56, 168], expected one in all runs" in line for line in status(tmp_path, capsys)
    )


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere cannot be read .*, expected the folder of a series of runs"):
        submission("status", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="Not a directory"):
        submission("status", tmp_path / "file")


def test_the_mean_is_the_official_one_at_forty() -> None:
    values = [float(value) for value in range(38)]
    found = trimmed_mean(values, 2)
    assert found is not None
    assert found.mean == official_mean(values, 2)
    assert trimmed_mean([1.0] * 35, 5) is None
    assert trimmed_mean([], 0) is None


def test_an_interval_by_hand() -> None:
    # Ten values: one dropped at each end, winsorized 2 2 3 4 5 6 7 8 9 9.
    found = trimmed_mean([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 100.0], 0)
    assert found is not None
    assert found.interval is not None
    assert found.mean == 5.5
    deviation = statistics.stdev([2, 2, 3, 4, 5, 6, 7, 8, 9, 9])
    half = 2.3646 * deviation / (0.8 * math.sqrt(10))  # Student's t of 7 degrees of freedom
    assert found.interval.high - 5.5 == pytest.approx(half, rel=1e-4)
    assert 5.5 - found.interval.low == pytest.approx(half, rel=1e-4)


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    generator = random.Random(1)
    hits = 0
    for _ in range(400):
        found = trimmed_mean([generator.gauss(10, 2) for _ in range(20)], 0)
        assert found is not None
        assert found.interval is not None
        hits += found.interval.low <= 10 <= found.interval.high
    assert 0.91 <= hits / 400 <= 0.98
