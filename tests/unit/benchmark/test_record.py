"""Records as files, and the table made of them."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.__main__ import main
from benchmark.environment import describe
from benchmark.record import Record, read_record, to_json, write_record
from pipelines.errors import DataError


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "not a benchmark record: expected"),
        ("{}", "not a benchmark record: expected"),
        ('{"schema_version": 99}', "not a benchmark record of schema version 1 but of 99"),
        ('{"schema_version": 1}', "lacks suite"),
        ("", "is not JSON (line 1: "),
        ('{"suite": "s",\n "command": [', "is not JSON (line 2: "),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError) as caught:
        read_record(tmp_path / "r.json")
    assert words in str(caught.value)
    assert str(tmp_path / "r.json") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"results": [1]}, "has a results that is none"),
        ({"date": None}, "has a date that is none"),
        ({"note": "x"}, "has note, which no record has"),
    ],
)
def test_a_record_that_was_edited_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps(json.loads(to_json(record())) | change))
    with pytest.raises(DataError, match=words):
        read_record(tmp_path / "r.json")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is no text"):
        read_record(tmp_path / "r.json")


def test_a_folder_stands_for_the_record_in_it(tmp_path: Path) -> None:
    write_record(record(), tmp_path / "record.json")
    assert read_record(tmp_path) == read_record(tmp_path / "record.json")
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "other")


def test_arrays_of_numbers_take_a_line() -> None:
    results = {
        "step_us": list(range(1000)),
        "values": [1.5, -2e-30, 3e300],
        "none": [],
        "mixed": [1, None, "2"],
    }
    lines = to_json(record(results=results)).splitlines()
    assert f'    "step_us": {list(range(1000))},' in lines
    assert '    "values": [1.5, -2e-30, 3e+300],' in lines
    assert '    "none": [],' in lines
    assert len(lines) < 60


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('[]\n 1,e.-\\"x'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("[]\n 1,"), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), PLAIN, max_size=5))
def test_the_lines_change_nothing(results: dict[str, object]) -> None:
    original = record(results=results, environment={})
    assert json.loads(to_json(original)) == json.loads(json.dumps(asdict(original), default=str))


def test_environment_is_plain_and_names_the_essentials() -> None:
    found = json.loads(json.dumps(describe()))
    assert found["usable_cpus"] >= 1
    assert {"torch", "numpy"} <= set(found["packages"])
    assert len(found["commit"]) == 40


def test_the_table_lists_every_result_by_its_notes(tmp_path: Path) -> None:
    for name in ("2026-01-01_b", "2025-01-01_a"):
        write_record(record(suite=name), tmp_path / name / "record.json")
        (tmp_path / name / "notes.md").write_text(f"# Title of {name}\n\nMore.\n")
    assert main(["results", "--results", str(tmp_path)]) == 0
    rows = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("| 20")]
    assert len(rows) == 2
    assert "2025-01-01_a" in rows[0]
    assert "Title of 2026-01-01_b" in rows[1]


def test_a_result_without_notes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(record(), tmp_path / "2026_x" / "record.json")
    assert main(["results", "--results", str(tmp_path)]) == 1
    assert "notes.md" in capsys.readouterr().err
