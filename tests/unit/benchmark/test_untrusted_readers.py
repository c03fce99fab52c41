"""Records, manifests, stamps, logs and packages from elsewhere: a sentence for what is none, and no more."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.__main__ import main
from benchmark.dataset_identity import describe_dataset
from benchmark.record import write_record
from benchmark.submission.lines import read_lines
from benchmark.submission.system import read_system
from pipelines.errors import DataError
from preprocess.errors import UsageError
from preprocess.manifest import Manifest, ManifestError
from preprocess.origin import read_origin
from preprocess.spec import EVALUATION_CASES_FILE
from runtime.errors import RunError
from runtime.preflight.seeds import logged_seeds
from runtime.preflight.stamp import Stamp
from tests.unit.benchmark.page_records import profile, record

DEEP = "[" * 100_000
ODD = "\x1b[2J|]<b>\ud800"


@pytest.mark.parametrize(
    ("name", "text", "read", "error"),
    [
        ("manifest.json", DEEP, lambda path: Manifest.load(path.parent), ManifestError),
        ("phantom.json", DEEP, lambda path: read_origin(path.parent), UsageError),
        ("preflight.json", DEEP, Stamp.load, RunError),
        ("system.json", DEEP, read_system, DataError),
        ("unet3d.log", f':::MLLOG {{"key": "seed", "value": {DEEP}', logged_seeds, RunError),
        ("unet3d.log", ':::MLLOG {"key": "seed", "value": 1e999}', logged_seeds, RunError),
    ],
)
def test_what_would_end_a_reader_gets_its_error(
    tmp_path: Path, name: str, text: str, read: Callable[[Path], Any], error: type[Exception]
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=name.replace(".", r"\.")):
        read(tmp_path / name)


@pytest.mark.parametrize("time", ["1" + "0" * 400, "1e999", "NaN", "true", '"1"', DEEP])
def test_a_line_of_a_log_with_no_time_is_objected_to(tmp_path: Path, time: str) -> None:
    path = tmp_path / "result_0.txt"
    path.write_text(f':::MLLOG {{"time_ms": {time}, "key": "k", "value": 1, "metadata": {{}}}}\n')
    lines, objections = read_lines(path)
    assert not lines
    assert [objection.rule for objection in objections] == ["lines"]


def test_an_image_of_no_dtype_is_named(tmp_path: Path) -> None:
    for kind in "xy":
        np.save(tmp_path / f"case_00003_{kind}.npy", np.zeros((1, 2, 2, 2), np.float32))
    image = tmp_path / "case_00003_x.npy"
    image.write_bytes(image.read_bytes().replace(b"'<f4'", b"'<x9'"))
    with pytest.raises(DataError, match=r"case_00003_x\.npy names <x9, which is no dtype"):
        describe_dataset(tmp_path, EVALUATION_CASES_FILE)


def test_records_compare_without_steering_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = profile(steps=40)
    odd = record("profile", made.results, date=ODD, environment=made.environment | {"cpu": ODD, "commit": 7})
    for name, one in (("a", made), ("b", odd)):
        write_record(one, tmp_path / f"{name}.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 5
    shown = capsys.readouterr().out
    assert r"\x1b[2J|]<b>\ud800" in shown
    assert "\x1b" not in shown
    shown.encode()


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), "1", [1]])
def test_a_rate_that_is_none_does_not_compare(
    tmp_path: Path, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made = profile(steps=40)
    made.results["findings"]["rates"]["both"]["high"] = value
    write_record(made, tmp_path / "a.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 1
    assert "was it edited?" in capsys.readouterr().err


def test_the_table_of_results_holds_whatever_a_record_says(tmp_path: Path) -> None:
    made = asdict(profile(steps=40))
    folder = tmp_path / "2026_x"
    folder.mkdir()
    made["environment"] |= {"cpu": ODD}
    (folder / "record.json").write_text(json.dumps(made | {"date": "|"}))
    (folder / "notes.md").write_text("# A `title` <img src=x>\n")
    assert main(["results", "--results", str(tmp_path)]) == 0
    row = (tmp_path / "README.md").read_text().splitlines()[-1]
    assert row.startswith(r"| \| | [A `title` \<img src=x\>](2026_x/notes.md) |")
    assert r"\x1b\[2J\|\]\<b\>\ud800" in row
    del made["environment"]["cpu"]
    (folder / "record.json").write_text(json.dumps(made))
    assert main(["results", "--results", str(tmp_path)]) == 1


@pytest.mark.parametrize("place", ["results/system/unet3d", "results/system/unet3d/scaling.json"])
def test_a_package_that_leads_elsewhere_is_not_checked(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    link, elsewhere = tmp_path / "package" / place, tmp_path / "elsewhere"
    link.parent.mkdir(parents=True)
    elsewhere.mkdir()
    link.symlink_to(elsewhere if "json" not in place else elsewhere / "scaling.json")
    assert main(["submission", "check", str(tmp_path / "package")]) == 1
    assert "is a link, through which package_checker would write" in capsys.readouterr().err
    assert not list(elsewhere.iterdir())
    assert not (tmp_path / "package.checks").exists()
