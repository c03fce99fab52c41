"""What `report` finds in files and folders, and what it makes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.page.gather import find, gather
from benchmark.page.node import Node
from benchmark.record import Record, read_record, write_record
from pipelines.errors import DataError
from tests.unit.benchmark.page_records import profile_results, record, write_sweep

SMALL: dict[str, Any] = {"steps": 30, "rounds": 1}


@pytest.fixture(scope="module")
def small() -> Record:
    return record("profile", profile_results(**SMALL))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "swept", steps=20)


def changed(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content["results"])
    path.write_text(json.dumps(content))


def test_a_file_or_its_folder(tmp_path: Path, small: Record) -> None:
    write_record(small, tmp_path / "a" / "record.json")
    assert [path for path, _ in find([tmp_path / "a"])] == [tmp_path / "a" / "record.json"]
    assert find([tmp_path / "a" / "record.json"]) == find([tmp_path / "a"])


def test_points_without_a_sweep(tmp_path: Path, small: Record) -> None:
    for name in ("point-002.json", "point-001.json", "other.json"):
        write_record(small, tmp_path / name)
    assert [path.name for path, _ in find([tmp_path])] == ["point-001.json", "point-002.json"]
    assert [p.name for p in gather(find([tmp_path])).profiles] == ["#1 point-001", "#2 point-002"]


def test_points_of_a_sweep_are_shown_once_with_their_steps(sweep: Path) -> None:
    found = gather(find([sweep.parent]))
    assert [p.number for p in found.profiles] == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    assert found.profiles[7].name == "#8 loader=dali, num_workers=2"
    assert all(len(p.of("both")) == 3 for p in found.profiles)
    assert [(f.number, f.status, f.reason) for f in found.failures] == [
        (9, "failed", "out of memory: ended by signal 9"),
        (11, "missing", ""),
        (12, "failed", "out of memory: ended by signal 9"),
    ]
    assert found.notices == ("This sweep is not complete: what is missing is in the table of all points.",)
    assert "6 workers remove the stall" in found.remarks[0]


def test_a_sweep_may_be_given_by_its_folder_or_its_name(sweep: Path) -> None:
    of_folder = gather([(sweep.parent, read_record(sweep))])
    assert all(p.phases for p in of_folder.profiles)
    of_name = gather([("mine", read_record(sweep))])
    assert not any(p.phases for p in of_name.profiles)
    assert of_name.profiles[0].name == "#1 loader=pytorch, num_workers=1"


def test_a_point_whose_record_is_gone_is_named(sweep: Path) -> None:
    (sweep.parent / "point-002.json").unlink()
    found = gather(find([sweep]))
    assert not found.profiles[1].phases
    assert "The records of #2 are not beside" in found.notices[0]


@pytest.mark.parametrize("name", ["../other.json", "/etc/passwd", "a/b.json"])
def test_a_sweep_reads_nothing_outside_its_folder(sweep: Path, name: str) -> None:
    changed(sweep, lambda results: results["points"][0].update(record=name))
    with pytest.raises(DataError, match="expected the name of a file beside it"):
        gather(find([sweep]))


def test_a_point_must_be_a_profile(sweep: Path) -> None:
    write_record(read_record(sweep), sweep.parent / "point-001.json")
    with pytest.raises(DataError, match=r"point-001\.json: a record of 'sweep', expected a point's"):
        gather(find([sweep]))


def test_several_have_different_names(tmp_path: Path, small: Record) -> None:
    paths = [tmp_path / name for name in ("x/record.json", "y/x/record.json", "z.json")]
    for path in paths:
        write_record(small, path)
    assert [p.name for p in gather(find(paths)).profiles] == ["#1 x (1)", "#2 x (2)", "#3 z"]


def test_one_alone_is_called_what_its_loader_says(small: Record) -> None:
    found = gather([("a", small)])
    assert found.profiles[0].name == "pytorch, 2 worker processes, windows read from the files"
    assert found.alone


def test_of_many_the_fastest_the_slowest_and_some_between_are_shown(sweep: Path) -> None:
    found = gather(find([sweep]))
    rates = [p.rate("both").value or 0 for p in found.fastest]
    assert rates == sorted(rates, reverse=True)
    assert [found.fastest.index(p) for p in found.shown] == [0, 3, 5, 8]


def test_an_interrupted_profile_is_said_to_be_one() -> None:
    results = profile_results(**SMALL) | {"findings": None}
    found = gather([("a", record("profile", results))])
    assert not found.profiles
    assert found.failures[0].status == "interrupted"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing does not exist, expected a record"):
        find([tmp_path / "nothing"])
    with pytest.raises(DataError, match=r"holds neither record\.json nor point-\*\.json"):
        find([tmp_path])
    with pytest.raises(DataError, match="no record to show"):
        gather([])


def test_another_suite_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"r\.json: a record of 'loaders-beside-peers' has no page"):
        gather([(tmp_path / "r.json", record("loaders-beside-peers", {}))])


def test_another_version_and_a_truncated_file_are_refused(tmp_path: Path, small: Record) -> None:
    write_record(small, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "cut.json").write_text(text[: len(text) // 2])
    (tmp_path / "new.json").write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    for name in ("cut.json", "new.json"):
        with pytest.raises(DataError, match=name):
            find([tmp_path / name])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r.pop("patch"), "r.json: results has no 'patch'"),
        (lambda r: r.update(phases=[3]), r"results.phases[0] is 3, expected an object"),
        (lambda r: r["phases"][0].update(step_us=[1, None]), "step_us is None, expected a list of numbers"),
        (lambda r: r["phases"][0].update(arm=None), "arm is None, expected a string"),
        (lambda r: r["phases"][0].update(round=1.5), "round is 1.5, expected a whole number"),
    ],
)
def test_a_record_that_was_changed_is_named(
    small: Record, change: Callable[[Any], None], sentence: str
) -> None:
    results = json.loads(json.dumps(small.results))
    change(results)
    with pytest.raises(DataError) as caught:
        _ = gather([(Path("r.json"), record("profile", results)), ("b", small)]).profiles[0].patch
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("r.json: ")


def test_numbers_are_numbers() -> None:
    node = Node({"a": 1, "b": None, "c": True, "d": float("nan"), "e": "1", "f": "x" * 99}, "r")
    assert (node.number("a"), node.number("b")) == (1.0, None)
    for key in "cdef":
        with pytest.raises(DataError, match=rf"r\.{key} is .*, expected a number"):
            node.number(key)
    with pytest.raises(DataError) as caught:
        node.number("f")
    assert len(str(caught.value)) < 150


def test_text_is_one_line() -> None:
    assert Node({"a": " x\n\ty "}, "r").text("a") == "x y"
    assert Node({"a": None}, "r").maybe_text("a") == ""
