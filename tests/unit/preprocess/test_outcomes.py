"""What the reader is told about outcomes that good cases on this machine do not have."""

from concurrent.futures import Future
from pathlib import Path

import pytest

from preprocess.manifest import CaseRecord, Manifest
from preprocess.outcomes import Outcomes
from preprocess.task import CaseOutcome, CaseTask

RECORD = CaseRecord((128, 128, 128), (1.0, 1.0, 1.0), 0.25, 0.5, "a" * 32, "b" * 32)


def finished(result: CaseOutcome | Exception) -> Future[CaseOutcome]:
    future: Future[CaseOutcome] = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


def test_another_rounding_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = Outcomes(tmp_path, Manifest("kits19"), workers=1)
    for name, exact in (("case_00000", False), ("case_00001", True), ("case_00002", False)):
        outcomes.take(
            CaseTask(Path(name), tmp_path, None), finished(CaseOutcome(RECORD, kept=False, exact=exact))
        )
    assert outcomes.report() == 0
    assert capsys.readouterr().out.count("images may differ from the md5 table in the last bits") == 1


def test_an_error_of_the_program_is_named_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = Outcomes(tmp_path, Manifest("kits19"), workers=1)
    outcomes.take(CaseTask(Path("case_00000"), tmp_path, None), finished(TypeError("surprise")))
    assert outcomes.report() == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "case_00000: unexpected TypeError, please report it: surprise",
        "1 cases failed: case_00000",
    ]


def test_the_manifest_on_disk_grows_with_every_case(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path, Manifest("kits19"), workers=1)
    for count, name in enumerate(("case_00000", "case_00001"), start=1):
        outcomes.take(
            CaseTask(Path(name), tmp_path, None), finished(CaseOutcome(RECORD, kept=False, exact=True))
        )
        assert len(Manifest.load(tmp_path).cases) == count
