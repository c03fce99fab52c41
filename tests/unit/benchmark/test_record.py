"""Records as files, and the table made of them."""

import json
from pathlib import Path

import pytest

from benchmark.environment import describe
from benchmark.record import Record, read_record, write_record
from benchmark.report import main


def record(**changes: object) -> Record:
    fields = {"suite": "s", "command": ["a"], "results": {"x": 1.5}, "config": {"path": Path("p")}}
    return Record(**(fields | changes))  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    original = record(config={"a": [1, 2]})
    write_record(original, tmp_path / "new" / "r.json")
    assert read_record(tmp_path / "new" / "r.json") == original
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["r.json"]


def test_paths_become_strings(tmp_path: Path) -> None:
    write_record(record(), tmp_path / "r.json")
    assert read_record(tmp_path / "r.json").config == {"path": "p"}


@pytest.mark.parametrize("content", ["[]", '{"schema_version": 99}', "{}"])
def test_what_is_no_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ValueError, match=r"r\.json: not a benchmark record"):
        read_record(tmp_path / "r.json")


def test_environment_is_plain_and_names_the_essentials() -> None:
    found = json.loads(json.dumps(describe()))
    assert found["usable_cpus"] >= 1
    assert {"torch", "numpy"} <= set(found["packages"])
    assert len(found["commit"]) == 40


def test_the_table_lists_every_result_by_its_notes(tmp_path: Path) -> None:
    for name in ("2026-01-01_b", "2025-01-01_a"):
        write_record(record(suite=name), tmp_path / name / "record.json")
        (tmp_path / name / "notes.md").write_text(f"# Title of {name}\n\nMore.\n")
    assert main(["--results", str(tmp_path)]) == 0
    rows = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("| 20")]
    assert len(rows) == 2
    assert "2025-01-01_a" in rows[0]
    assert "Title of 2026-01-01_b" in rows[1]


def test_a_result_without_notes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(record(), tmp_path / "2026_x" / "record.json")
    assert main(["--results", str(tmp_path)]) == 1
    assert "notes.md" in capsys.readouterr().err
