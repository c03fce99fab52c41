"""The description of a system: what is refused of it, and the template that this machine fills in."""

import json
from pathlib import Path

import pytest

from benchmark import environment
from benchmark.mllog.log import read_log
from benchmark.submission.system import FIELDS, fits_logs, inspect_system, read_system
from benchmark.submission.template import processors, template, write_template
from pipelines.errors import DataError
from tests.unit.benchmark.forged_logs import forge
from tests.unit.benchmark.submissions import ORG, described, submission


def refused(path: Path, org: str | None = ORG) -> dict[str, str]:
    """Objections by rule."""
    return {objection.rule: objection.found for objection in inspect_system(path, read_system(path), org)}


def test_a_whole_description_is_not_refused(tmp_path: Path) -> None:
    assert refused(described(tmp_path / "eight.json")) == {}
    table = {"cuda": "13.0", "dali": "2.4.0"}
    assert refused(described(tmp_path / "table.json", other_software_stack=table)) == {}
    assert refused(described(tmp_path / "bare.json", hw_notes="", host_processor_vcpu_count="")) == {}


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_has_to_be_there_as_text(field: str, tmp_path: Path) -> None:
    missing = refused(described(tmp_path / "missing.json", **{field: None}), None)
    assert missing["system fields"] == f"has no field {field}, expected all 33"
    number = refused(described(tmp_path / "number.json", **{field: 8}), None)
    assert number["system types"] == f"{field} is 8, expected text in quotes"


@pytest.mark.parametrize(
    ("field", "value", "rule", "words"),
    [
        ("number_of_nodes", "0", "system numbers", "is '0', expected a whole number from 1 on"),
        ("number_of_nodes", "one", "system numbers", "is 'one', expected a whole number"),
        ("host_processors_per_node", "2.0", "system numbers", "is '2.0'"),
        ("accelerators_per_node", "", "system meaning", "accelerators_per_node is empty, expected an answer"),
        ("cooling", "", "system meaning", "cooling is empty, expected an answer, N/A where there is none"),
        ("division", "Closed", "system division", "division is 'Closed', expected 'closed'"),
        ("division", "open", "system division", "division is 'open'"),
        ("status", "onprem", "system status", "status is 'onprem', expected one of 'Available on-premise'"),
        (
            "submitter",
            "another",
            "organisation",
            'submitter is "another", expected "voxelrate" as --org has it',
        ),
    ],
)
def test_values_are_refused_by_name(field: str, value: str, rule: str, words: str, tmp_path: Path) -> None:
    found = refused(described(tmp_path / "eight.json", **{field: value}))
    assert set(found) == {rule}
    assert words in found[rule]


def test_one_count_of_a_processor_is_enough_and_none_is_not(tmp_path: Path) -> None:
    empty = described(tmp_path / "a.json", host_processor_vcpu_count="", host_processor_core_count="")
    assert set(refused(empty)) == {"system meaning"}


@pytest.mark.parametrize("name", ["two words", ".hidden", "a[1]", "a*"])
def test_a_name_that_the_checkers_stumble_over_is_refused(name: str, tmp_path: Path) -> None:
    assert set(refused(described(tmp_path / f"{name}.json"))) == {"file names"}


def test_files_that_are_no_description(tmp_path: Path) -> None:
    path = tmp_path / "eight.json"
    with pytest.raises(DataError, match="cannot be read .* submission system --out"):
        read_system(path)
    path.write_text('{"submitter": ')
    with pytest.raises(DataError, match="is no JSON"):
        read_system(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="is no table, expected a JSON object"):
        read_system(path)


@pytest.mark.parametrize(
    ("logged", "described_as"),
    [
        ("onprem", "Available on-premise"),
        ("cloud", "Available cloud"),
        ("preview", "Preview"),
        ("research", "Research, Development, or Internal (RDI)"),
    ],
)
def test_submitter_and_status_are_those_of_the_logs(logged: str, described_as: str, tmp_path: Path) -> None:
    flags = ("--mlperf_status", logged)
    log = read_log(forge(tmp_path / "result_0.txt", epochs=1000, flags=flags))
    for status in ("Available on-premise", "Available cloud", "Preview"):
        path = described(tmp_path / "eight.json", status=status)
        rules = [objection.rule for objection in fits_logs(path, read_system(path), log, tmp_path)]
        assert rules == ([] if status == described_as else ["status"])
    path = described(tmp_path / "eight.json", status=described_as, submitter="another")
    assert [objection.rule for objection in fits_logs(path, read_system(path), log, tmp_path)] == [
        "organisation"
    ]


def test_the_template_knows_this_machine_and_names_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "eight.json"
    assert submission("system", "--out", path) == 0
    fields = json.loads(path.read_text())
    assert list(fields) == list(FIELDS)
    assert fields["framework"].startswith("PyTorch ")
    assert fields["host_processor_model_name"]
    assert fields["host_memory_capacity"].endswith(" GiB")
    assert "kernel" in fields["operating_system"]
    found = refused(path, None)
    assert set(found) == {"system meaning"}
    said = capsys.readouterr().out
    named = said.partition("fill in ")[2].partition(" (")[0].split(", ")
    assert {"submitter", "status", "system_name", "cooling"} <= set(named)
    assert all(fields[field] == "" for field in named)
    # What is named is all that is missing.
    path.write_text(json.dumps(fields | dict.fromkeys(named, "N/A") | {"status": "Preview"}))
    assert refused(path, None) == {}
    with pytest.raises(DataError, match="exists, expected a new file"):
        write_template(path)


def test_a_machine_with_accelerators_describes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"name": "NVIDIA H200", "memory_bytes": 141 << 30, "driver_version": "575.1"}
    machine = environment.describe() | {"gpus": [gpu] * 8, "cuda": "13.0"}
    monkeypatch.setattr(environment, "describe", lambda: machine)
    fields = template()
    assert fields["accelerators_per_node"] == "8"
    assert fields["accelerator_model_name"] == "NVIDIA H200"
    assert fields["accelerator_memory_capacity"] == "141 GiB"
    assert "CUDA 13.0, " in fields["other_software_stack"]
    assert "driver 575.1" in fields["other_software_stack"]
    assert fields["accelerator_interconnect"] == ""


def test_processors_are_counted_by_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "SYSTEM", tmp_path)
    cpuinfo = tmp_path / "proc" / "cpuinfo"
    cpuinfo.parent.mkdir()
    threads = [
        f"processor\t: {i}\nphysical id\t: {socket}\ncore id\t\t: {core}"
        for i, (socket, core) in enumerate((s, c) for _ in range(2) for s in range(2) for c in range(4))
    ]
    cpuinfo.write_text("\n\n".join(threads) + "\n\n")
    assert processors() == (2, 4, 8)
    cpuinfo.write_text("processor\t: 0\n\nprocessor\t: 1\n\n")
    assert processors() == (1, 2, 2)
