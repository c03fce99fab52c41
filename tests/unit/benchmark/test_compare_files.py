"""``python -m benchmark compare``: records that cannot be used, baselines, and wrong flags."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_records import Compare, benchmark, profile

from benchmark.__main__ import main
from benchmark.comparable import measured
from benchmark.record import read_record, write_record


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    return Compare(tmp_path, capsys)


def cut(path: Path) -> None:
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def edited(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "is not JSON (line "),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is no text"),
        (lambda path: path.unlink(), "No such file"),
        (edited(schema_version=2), "schema version 1 but of 2"),
        (edited(suite="fronts"), "is of suite fronts, and only profile, benchmark-train, sweep"),
        (edited(results={}), "has no results as suite profile has them"),
        (edited(results={"findings": None}), "was interrupted before all arms were measured"),
        (edited(results={"findings": {"rates": {"both": {"images_per_s": 1, "low": 2, "high": 3}}}}),
         "images_per_s is not within its interval"),
    ],
)  # fmt: skip
def test_records_that_cannot_be_used(compare: Compare, damage: Callable[[Path], None], words: str) -> None:
    write_record(profile(), compare.a)
    write_record(profile(), compare.b)
    damage(compare.b)
    status, text = compare.run(str(compare.a), str(compare.b))
    assert status == 1
    assert str(compare.b) in text
    assert words in text


def test_a_baseline_is_accepted_compared_and_accepted_again(compare: Compare, tmp_path: Path) -> None:
    baseline = tmp_path / "kept" / "baseline.json"
    write_record(profile(), compare.b)
    status, text = compare.run("--baseline", str(baseline), str(compare.b))
    assert status == 1
    assert f"{baseline} is not there: --accept keeps the first one" in text
    assert compare.run("--baseline", str(baseline), str(compare.b), "--accept")[0] == 0
    assert [path.name for path in baseline.parent.iterdir()] == ["baseline.json"]

    write_record(profile(both=15), compare.b)
    status, text = compare.run("--baseline", str(baseline), str(compare.b))
    assert status == 3
    assert read_record(baseline).results["findings"] == profile().results["findings"]
    status, text = compare.run("--baseline", str(baseline), str(compare.b), "--accept")
    assert status == 0
    assert "both: SLOWER" in text
    assert compare.run("--baseline", str(baseline), str(compare.b))[0] == 0


def test_a_baseline_has_no_times_of_steps_and_compares_as_the_record(
    compare: Compare, tmp_path: Path
) -> None:
    for record in (profile(), benchmark(20)):
        baseline = tmp_path / f"{record.suite}.json"
        write_record(record, compare.b)
        assert compare.run("--baseline", str(baseline), str(compare.b), "--accept")[0] == 0
        assert baseline.stat().st_size < compare.b.stat().st_size - 1000
        assert measured(read_record(baseline), baseline) == measured(record, compare.b)


def test_what_cannot_be_compared_is_not_accepted(compare: Compare, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    write_record(replace(profile(), suite="fronts"), compare.b)
    assert compare.run("--baseline", str(baseline), str(compare.b), "--accept")[0] == 1
    assert not baseline.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["a"], "expected two records, or one and --baseline, found 1"),
        (["a", "b", "c"], "expected two records, or one and --baseline, found 3"),
        (["a", "b", "--baseline", "c"], "expected one record beside --baseline, found 2"),
        (["a", "b", "--accept"], "--accept needs --baseline"),
        (["a", "b", "--ignore", "cpu,speed"], "'speed' is none of activation, amp,"),
        (["a", "b", "--noise_floor", "3"], "at most 0.5"),
        (["a", "b", "--arm", "all"], "invalid choice"),
    ],
)
def test_wrong_flags(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compare", *flags])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_help_tells_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "3 SLOWER; 4 AMBIGUOUS; 5 INCOMPARABLE" in text
