"""What a GPU check writes and prints."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from benchmark import record as record_module
from benchmark.__main__ import main
from benchmark.gpu_check import commands, curves, summary
from benchmark.gpu_check.journal import OK, Journal, Outcome
from benchmark.gpu_check.scale import DRY, REAL
from tests.unit.benchmark.gpu_checks import journal, step

SCHEMA = json.loads(Path(record_module.__file__).with_name("record_schema.json").read_text(encoding="utf-8"))


class TestSummary:
    def filled(self, folder: Path, dry: bool) -> Journal:
        found = journal(folder, dry)
        for section, outcome in (
            ("ceilings", Outcome("m", OK, values={"what": "matmul", "dtype": "bfloat16", "tflops": 700.0})),
            ("ceilings", Outcome("c", OK, values={"what": "copy", "dtype": "bfloat16", "gbps": 4000.0})),
            ("exactness", Outcome("norm in.c1", "wrong", "further off", values={"errors": {}})),
            ("ladder", Outcome("everything batch 7", OK, values=step(95.0))),
            ("ladder", Outcome("reference batch 7", OK, values=step(25.0, dtype="float16"))),
            ("ladder", Outcome("everything batch 2", OK, values=step(80.0, batch=2))),
            ("ladder", Outcome("compile batch 7", "failed", "out of GPU memory: tried to")),
            ("tests", Outcome("pytest -m gpu", "not run", "out of time")),
            ("curves", Outcome("native", OK, values={"losses": [1.0, 0.5]})),
            ("curves", Outcome("fused", OK, values={"losses": [1.0, 0.9]})),
        ):
            found.begin(section, section)
            found.note(section, outcome, "")
        verdict = curves.verdict(found)
        assert verdict
        found.note("curves", verdict, "")
        return found

    def test_the_last_line_is_the_fastest_step_beside_nvidias(self, tmp_path: Path) -> None:
        table = summary.table(self.filled(tmp_path, dry=False), REAL)
        assert table[-1] == (
            "fastest step: everything batch 7: 95.0 img/s, 272 TFLOP/s (39 % of its matmul); 1.25 x NVIDIA's "
            "76.0 (H200, batch 7, end to end)"
        )
        text = "\n".join(table)
        assert "exactness: 0 right, 1 wrong, 0 not judged" in text
        assert "WRONG in exactness: norm in.c1 (further off)" in text
        assert "failed in ladder: compile batch 7" in text
        assert "not run in tests: pytest -m gpu" in text
        assert "loss curves DIFFER" in text
        assert len(text) < 12_000
        assert max(map(len, table)) < 200

    def test_that_of_a_dry_run_compares_with_nothing(self, tmp_path: Path) -> None:
        table = summary.table(self.filled(tmp_path, dry=True), DRY)
        assert "none of its numbers is a measurement" in table[-1]
        assert "NVIDIA's" not in "\n".join(table)

    def test_that_of_nothing_at_all(self, tmp_path: Path) -> None:
        assert summary.table(journal(tmp_path), REAL)


class TestTests:
    def test_files_with_the_mark_are_found(self) -> None:
        assert "tests/numerics/test_gpu.py" in commands.gpu_tests()

    def test_counts_and_names_of_failures(self, tmp_path: Path) -> None:
        file = tmp_path / "test_it.py"
        file.write_text(
            "import pytest\npytestmark = pytest.mark.gpu\ndef test_a(): pass\ndef test_b(): assert 0\n"
        )
        found = commands.tests(tmp_path, {"files": [str(file)], "dry": True}, 60.0)
        assert found["counts"] == {"failed": 1, "passed": 1}
        assert len(found["failed"]) == 1
        assert found["failed"][0].endswith("test_it.py::test_b")


def test_without_a_gpu_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu-check"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "needs a CUDA device: --dry_run" in line


class TestRecord:
    def content(self, folder: Path) -> dict[str, Any]:
        found = journal(folder)
        found.begin("ladder", "steps")
        found.note("ladder", Outcome("everything batch 7", OK, values=step(float("95"))), "")
        found.note("ladder", Outcome("compile batch 7", "failed", "no memory"), "")
        found.end("ladder", 9.0)
        content: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        return content

    def test_it_is_there_after_every_outcome_and_fits_the_schema(self, tmp_path: Path) -> None:
        content = self.content(tmp_path)
        jsonschema.Draft202012Validator(SCHEMA).validate(content)
        assert content["suite"] == "gpu-check"
        assert content["results"]["complete"] is False
        assert [path.name for path in tmp_path.iterdir()] == ["record.json"]

    def test_what_is_no_number_has_a_place(self, tmp_path: Path) -> None:
        found = journal(tmp_path)
        found.begin("ladder", "")
        found.note("ladder", Outcome("x", OK, values=step(1.0) | {"last_loss": float("nan")}), "")
        content = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
        assert content["results"]["sections"]["ladder"]["items"][0]["values"]["last_loss"] is None
        jsonschema.Draft202012Validator(SCHEMA).validate(content)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda results: results.pop("complete"),
            lambda results: results.update(dry_run=True),
            lambda results: results["sections"].update(other={"seconds": 1.0, "items": []}),
            lambda results: results["sections"]["ladder"].pop("seconds"),
            lambda results: results["sections"]["ladder"]["items"][0].update(status="fine"),
            lambda results: results["sections"]["ladder"]["items"][0].update(values=None),
            lambda results: results["sections"]["ladder"]["items"][0]["values"].update(images_per_s=0),
            lambda results: results["sections"]["ladder"]["items"][0]["values"].pop("peak_bytes"),
            lambda results: results["sections"]["ladder"]["items"][1].update(values={}),
            lambda results: results["sections"]["ladder"]["items"][1].update(reason=""),
        ],
    )
    def test_a_damaged_one_is_refused(
        self, tmp_path: Path, damage: Callable[[dict[str, Any]], object]
    ) -> None:
        content = copy.deepcopy(self.content(tmp_path))
        damage(content["results"])
        assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(content)
