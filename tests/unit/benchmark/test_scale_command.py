"""The command: layouts, tables, records, and wrong input."""

from pathlib import Path
from typing import Any

import pytest

from benchmark.record import Record, read_record, write_record
from benchmark.scale import command
from pipelines.errors import DataError
from preprocess.flags import OneSentenceParser
from tests.unit.benchmark import scale_records


def run(*arguments: object) -> int:
    parser = OneSentenceParser(prog="scale")
    command.add_arguments(parser)
    argv = list(map(str, arguments))
    flags = parser.parse_args(argv)
    flags.argv = argv
    return command.run(flags)


class Predict:
    """Writes a record, predicts from it and reads what comes out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *flags: object, record: Record | None = None) -> list[dict[str, Any]]:
        write_record(record or scale_records.benchmark(), self._folder / "benchmark.json")
        out = self._folder / "scale.json"
        assert run("--measured", self._folder / "benchmark.json", "--json", out, *flags) == 0
        found = read_record(out)
        assert (found.suite, found.command[:3]) == ("scale", ["python", "-m", "benchmark"])
        return list(found.results["rows"])


@pytest.fixture
def predict(tmp_path: Path) -> Predict:
    return Predict(tmp_path)


def layout(row: dict[str, Any]) -> tuple[int, int, int]:
    found = row["band"]["layout"]
    return found["nodes"], found["evaluation_nodes"], found["batch"]


def test_published_layouts_and_what_is_not_possible(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = predict("--nodes", "96,1,9,54,9")
    assert [row["nodes"] for row in rows] == [1, 9, 54, rows[3]["nodes"], 96]
    assert [layout(rows[0]), layout(rows[1])] == [(1, 0, 7), (9, 2, 1)]
    assert rows[1]["global_batch"] == rows[1]["training_gpus"] == 56
    for row in (rows[2], rows[4]):
        assert row["band"] is None
        assert row["sentence"].startswith("not possible with voxelrate: needs spatial parallelism")
    assert (rows[3]["sentence"], rows[3]["training_gpus"]) == ("the data-parallel limit", 80)
    output = capsys.readouterr().out
    assert "not measured" in output
    assert "54 nodes: not possible with voxelrate: needs spatial parallelism" in output
    assert "31190243 parameters in float32, 124.8 MB" in output
    assert "400 Gb/s as in a DGX H100" in output
    assert "with its interval" in output


def test_other_numbers_of_nodes_get_the_fastest_layout_with_a_reference_point(predict: Predict) -> None:
    (two,) = predict("--nodes", "2")
    minutes = two["band"]["none"]["minutes"]
    assert two["global_batch"] <= 84
    for flags in (("--batch_size", 1), ("--batch_size", 5), ("--evaluation_nodes", 1)):
        (other,) = predict("--nodes", "2", *flags)
        assert other["band"]["none"]["minutes"] >= minutes
    (given,) = predict("--nodes", "9", "--batch_size", "1", "--evaluation_nodes", "4")
    assert layout(given) == (9, 4, 1)


def test_a_batch_beyond_the_reference_points_has_a_rate_and_no_time(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = predict("--nodes", "3", "--batch_size", "7", "--evaluation_nodes", "0")
    assert row["band"]["none"]["images_per_s"] > 1000
    assert row["band"]["none"]["minutes"] is None
    assert "3 nodes: outside of the reference points (28 to 84)" in capsys.readouterr().out
    (row,) = predict("--nodes", "9", "--batch_size", "7")
    assert row["sentence"].startswith(
        "not possible: 72 GPUs at --batch_size 7 want more than the 168 volumes"
    )


def test_the_network_and_evaluation_can_be_given(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    (fast,) = predict("--nodes", "9", "--gradient_dtype", "float16")
    slow_net = ("--outer_gb_per_s", "1", "--outer_us", "100", "--inner_gb_per_s", "1", "--inner_us", "50")
    (slow,) = predict("--nodes", "9", *slow_net, "--evaluation_seconds", "60")
    assert slow["band"]["none"]["reduce_s"] > 50 * fast["band"]["none"]["reduce_s"]
    assert slow["band"]["none"]["evaluation_s"] == pytest.approx(30.0)
    output = capsys.readouterr().out
    assert "between nodes 1 GB/s per GPU, 100 us a hop (given)" in output
    assert "takes 10 s for each case of the busiest GPU (given)" in output
    assert "training waits for evaluations of 30.00 s" in output


def test_without_an_interval_no_column_of_it(predict: Predict, capsys: pytest.CaptureFixture[str]) -> None:
    predict("--nodes", "1", record=scale_records.step({"ours": [1.0, 1.0]}))
    assert "with its interval" not in capsys.readouterr().out


def test_large_machines_cannot_train_at_all(predict: Predict) -> None:
    (row,) = predict("--nodes", "1", "--gpus_per_node", "96")
    assert row["sentence"].startswith("not possible with voxelrate")


def test_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--check", "--json", tmp_path / "check.json") == 0
    found = read_record(tmp_path / "check.json")
    assert found.suite == "scale-check"
    assert sum(each["counts"] for each in found.results["runs"]) == 7
    output = capsys.readouterr().out
    assert "9 nodes H100 (v4.0)" in output
    assert "checks nothing, for it gave the model" in output
    assert "in float16, 62.4 MB" in output


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--nodes", "0"), "0 is no list of numbers of nodes"),
        (("--nodes", "1,2.5"), "1,2.5 is no list of numbers of nodes"),
        (("--nodes", ""), "is no list of numbers of nodes"),
        (("--gpus_per_node", "0"), "0 is not at least 1"),
        (("--outer_gb_per_s", "0"), "expected a number above 0, found '0'"),
        (("--ruleset", "3.0.0"), "invalid choice: '3.0.0'"),
        (("--check",), "not allowed with argument --measured"),
    ],
)
def test_wrong_flags(
    flags: tuple[str, ...], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run("--measured", tmp_path, *flags)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_flags_that_the_check_would_not_heed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--check", "--nodes", "9")
    assert "--nodes: the check takes the published runs as they were" in capsys.readouterr().err


def test_neither_a_record_nor_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--nodes", "1")
    assert "--measured --check is required" in capsys.readouterr().err


def test_evaluation_nodes_that_leave_none_to_train(predict: Predict) -> None:
    with pytest.raises(DataError, match="--evaluation_nodes 2 of 1 nodes leaves none to train"):
        predict("--nodes", "1,9", "--evaluation_nodes", "2")


def test_a_missing_record(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run("--measured", tmp_path / "none.json")
    (tmp_path / "text.json").write_text("no record")
    with pytest.raises(DataError, match="is not JSON"):
        run("--measured", tmp_path / "text.json")
