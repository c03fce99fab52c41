"""Records survive a file whatever they hold, and whatever a file holds is a record or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.record import LEVELS, Record, read_record, write_record
from pipelines.errors import DataError
from preprocess.untrusted import is_shallow, printable

numbers = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
tables = st.dictionaries(st.text(max_size=8), plain, max_size=5)
records = st.builds(
    Record,
    suite=st.text(max_size=20),
    command=st.lists(st.text(max_size=10), max_size=5),
    results=tables,
    config=tables,
    environment=tables,
    date=st.text(max_size=30),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("record") / "record.json"


@settings(max_examples=80)
@given(records)
def test_what_is_written_is_read(path: Path, record: Record) -> None:
    write_record(record, path)
    assert read_record(path) == record
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]
    write_record(read_record(path), path.with_name("again.json"))
    assert path.with_name("again.json").read_bytes() == path.read_bytes()
    path.with_name("again.json").unlink()


@settings(max_examples=80)
@given(records, st.data())
def test_a_damaged_record_is_refused_or_another_record(
    path: Path, record: Record, data: st.DataObject
) -> None:
    write_record(record, path)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=5) | st.sampled_from([b"[" * 2000, b"9" * 5000, b"Infinity", b"{}"]))
    path.write_bytes(whole[:at] + noise + whole[at + data.draw(st.integers(0, 20)) :])
    try:
        found = read_record(path)
    except DataError:
        return
    write_record(found, path)
    # NaN is not equal to itself, but its text is.
    assert json.dumps(read_record(path).results) == json.dumps(found.results)


def nested(levels: int) -> Any:
    found: Any = 0
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}", "holds a number or a list that no record has"),
        ('{"x": ' + "9" * 5_000 + "}", "holds a number or a list that no record has"),
        (json.dumps({"x": nested(LEVELS)}), f"deeper than {LEVELS} levels"),
    ],
)
def test_what_would_end_a_reader_is_refused(path: Path, results: str, words: str) -> None:
    write_record(Record(suite="s", command=[], results={"x": "here"}, environment={}), path)
    path.write_text(path.read_text().replace('{\n    "x": "here"\n  }', results))
    with pytest.raises(DataError, match=words):
        read_record(path)


def test_a_file_too_large_for_a_record_is_not_parsed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(Record(suite="s", command=[], results={"x": "y" * 2_000}, environment={}), path)
    monkeypatch.setattr("benchmark.record.LARGEST", 1_000)
    with pytest.raises(DataError, match="is larger than 0 MiB, which no record is"):
        read_record(path)


@given(st.integers(0, 60), st.integers(0, 60))
def test_depth_is_that_of_lists_and_objects(levels: int, allowed: int) -> None:
    assert is_shallow(nested(levels), allowed) == (levels <= allowed)
    assert is_shallow({"a": 1, "b": nested(levels)}, allowed + 1) == (levels <= allowed)


ODD = st.text(st.characters(exclude_categories=()), max_size=40)
"""Lone surrogates, control letters and marks of direction among others."""


@given(ODD)
def test_printable_text_moves_nothing_and_fits_any_stream(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert all(letter.isprintable() or letter.isspace() for letter in shown)
    assert not set(shown) & set("\n\r\t\x1b\x85\u2028\u2029\u202e\u200f")
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text
