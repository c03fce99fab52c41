"""The command: results of folders, what is shown, and what is answered to wrong input."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmark.mllog import command, show
from benchmark.record import read_record
from preprocess.flags import OneSentenceParser
from tests.unit.benchmark.mllog_lines import nvidia


def run(*arguments: object) -> int:
    parser = OneSentenceParser(prog="mllog")
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(map(str, arguments))))


def submission(root: Path, system: str = "box", runs: int = 40, unconverged: int = 0, **fields: Any) -> Path:
    """Runs of 52 to 91 cycles in the layout of the public repositories."""
    folder = root / "Acme" / "results" / system / "unet3d"
    for number in range(runs):
        late = number < unconverged
        log = nvidia(
            52 + number, seed=number, dice=0.5 if late else 0.91, status="aborted" if late else "success"
        )
        log.save(folder / f"result_{number}.txt")
    description = {"number_of_nodes": "2", "accelerators_per_node": "4"} | fields
    (root / "Acme" / "systems").mkdir(exist_ok=True)
    (root / "Acme" / "systems" / f"{system}.json").write_text(json.dumps(description))
    return folder


def result(json_file: Path) -> dict[str, Any]:
    (found,) = read_record(json_file).results["results"]
    return dict(found)


def minutes(cycles: float) -> float:
    return (cycles * 6 + (cycles - 49) * 1.5) / 60


def test_a_result_of_40_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = submission(tmp_path)
    (folder / "scaling.json").write_text('{"scaling_factor": 1.5}')
    assert run(tmp_path, "--json", tmp_path / "r.json") == 0
    found = result(tmp_path / "r.json")
    assert (found["label"], found["runs"], found["converged"]) == ("Acme/box", 40, 40)
    assert found["accelerators"] == {"count": 8, "source": "systems/box.json"}
    mean = sum(minutes(cycles) for cycles in range(56, 88)) / 32
    assert found["score_minutes"] == pytest.approx(mean)
    assert found["published_minutes"] == pytest.approx(1.5 * mean)
    assert found["samples_to_converge"] == pytest.approx(71.5 * 3360)
    assert found["images_per_s_per_accelerator"] == 70.0
    assert found["end_to_end_images_per_s"] == pytest.approx(3360 * 71.5 / 60 / minutes(71.5), rel=1e-3)
    assert found["deviations"] == {}
    assert [(each["evaluations"], each["last_mean_dice"]) for each in found["each_run"]] == [
        (3 + number, 0.91) for number in range(40)
    ]
    out = capsys.readouterr().out
    assert "Acme/box" in out
    assert "result_3.txt" not in out
    assert f"published: {1.5 * mean:.2f} minutes, by the factor 1.5000 of scaling.json" in out
    assert "deviates" not in out
    assert "\x1b" not in out


def test_unconverged_and_broken_runs_are_the_slowest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = submission(tmp_path, unconverged=3)
    last = folder / "result_39.txt"
    last.write_text("\n".join(last.read_text().splitlines()[:-1]))
    assert run(tmp_path, "--json", tmp_path / "r.json") == 1
    found = result(tmp_path / "r.json")
    assert (found["runs"], found["converged"]) == (40, 36)
    assert found["score_minutes"] == pytest.approx(sum(minutes(c) for c in range(59, 91)) / 32)
    assert capsys.readouterr().err == (
        f"python -m benchmark mllog: error: {last}: has no run_stop: the run did not finish\n"
    )
    last.unlink()
    submission(tmp_path, unconverged=5)
    assert run(tmp_path, "--json", tmp_path / "r.json") == 0
    found = result(tmp_path / "r.json")
    assert found["score_minutes"] is None
    assert list(found["deviations"]) == ["5 runs did not converge, expected 4 at most"]


def test_few_runs_are_each_shown_and_have_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission(tmp_path, runs=3)
    assert run(tmp_path) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["result_1.txt", "yes", "56", "560.0", "70.0"] in [row[:5] for row in rows]
    assert "no official time to train" in out
    assert "deviates: 3 runs, expected 40" in out


def test_runs_are_shown_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission(tmp_path)
    assert run(tmp_path, "--runs") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  result_")]
    assert names == [f"result_{number}.txt" for number in range(40)]


def test_deviations_name_their_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = submission(tmp_path, runs=9)
    nvidia(60, seed=100, oversampling=0.5).save(folder / "result_4.txt")
    assert run(folder) == 0
    assert "deviates: oversampling is 0.5, expected 0.4 (result_4.txt)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"accelerators_per_node": "0"},
            "systems/box.json gives no number_of_nodes and accelerators_per_node",
        ),
        ({"number_of_nodes": None}, "systems/box.json gives no number_of_nodes and accelerators_per_node"),
    ],
)
def test_an_unknown_number_of_gpus_is_not_invented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, Any], said: str
) -> None:
    folder = submission(tmp_path, runs=1, **fields)
    assert run(folder, "--json", tmp_path / "r.json") == 0
    assert result(tmp_path / "r.json")["images_per_s_per_accelerator"] is None
    assert f"the number of GPUs is unknown: {said}, give --gpus" in capsys.readouterr().out
    assert run(folder, "--gpus", 4, "--json", tmp_path / "r.json") == 0
    assert result(tmp_path / "r.json")["images_per_s_per_accelerator"] == 140.0


def test_logs_outside_a_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nvidia().save(tmp_path / "unet3d.log")
    (tmp_path / "other.log").write_text("a log of something else\n")
    assert run(tmp_path, "--json", tmp_path / "r.json") == 0
    found = result(tmp_path / "r.json")
    assert (found["label"], found["runs"]) == (str(tmp_path), 1)
    assert "no systems/SYSTEM.json beside results/, give --gpus" in capsys.readouterr().out


def test_results_of_the_same_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [submission(tmp_path / round_name, runs=1) for round_name in ("v1", "v2")]
    assert run(tmp_path) == 0
    out = capsys.readouterr().out
    assert all(str(folder) in out for folder in folders)


def test_other_benchmarks_get_one_sentence_for_each_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission(tmp_path, runs=1)
    other = tmp_path / "Acme" / "results" / "box" / "bert"
    for number in range(3):
        nvidia(submission_benchmark="bert").save(other / f"result_{number}.txt")
    assert run(tmp_path) == 1
    captured = capsys.readouterr()
    assert "is a log of bert, expected unet3d (and 2 more in its folder)" in captured.err
    assert captured.err.count("\n") == 1
    assert "Acme/box" in captured.out


def test_nothing_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "result_0.txt"
    empty.write_text("Starting\n")
    (tmp_path / "none").mkdir()
    assert run(empty, tmp_path / "none", tmp_path / "absent", "--json", tmp_path / "r.json") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(": error: ")[1] for line in captured.err.splitlines()] == [
        f"{tmp_path / 'none'} holds no result_*.txt and no *.log with :::MLLOG lines, expected logs of runs",
        f"{tmp_path / 'absent'} does not exist, expected a log or a folder of logs",
        f"{empty}: holds no :::MLLOG line, expected the log of a run",
    ]
    assert not (tmp_path / "r.json").exists()


def test_a_broken_scaling_factor_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (submission(tmp_path, runs=1) / "scaling.json").write_text("{}")
    assert run(tmp_path) == 1
    assert "scaling.json holds no scaling_factor" in capsys.readouterr().err


def test_a_terminal_gets_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "Console", lambda: Console(force_terminal=True, width=120))
    assert run(submission(tmp_path, runs=1)) == 0
    out = capsys.readouterr().out
    assert "\u2500" in out
    assert "result_0.txt" in out


def test_no_path_is_a_wrong_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    assert "FILE_OR_DIR" in capsys.readouterr().err
