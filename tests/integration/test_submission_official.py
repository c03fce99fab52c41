"""What the official checkers say of packages and logs, beside what we say: we are never the milder ones."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.mllog.result import read_result
from benchmark.mllog.score import RUNS
from benchmark.submission.gather import inspect_logs, result_files
from benchmark.submission.inspect_package import inspect_package
from benchmark.submission.log_set import of_set
from benchmark.submission.one_log import RunFile, inspect_log
from benchmark.submission.system import FIELDS, inspect_system, read_system
from runtime.mlperf_arguments import RULESETS
from tests.unit.benchmark import spoilings
from tests.unit.benchmark.forged_logs import copied, drawn, forge, forge_set
from tests.unit.benchmark.submissions import ORG, described, submission

RULESET = "4.0.0"
EXAMPLES = int(os.environ.get("EXAMPLES", "3"))
SEARCH = settings(
    max_examples=EXAMPLES, derandomize="EXAMPLES" not in os.environ, suppress_health_check=list(HealthCheck)
)
"""EXAMPLES=100 looks harder, at other places each time."""

NEEDS_THE_SET = (spoilings.another_batch_size, spoilings.the_other_unit, spoilings.another_status)
"""Kinds that may only show among all logs."""


class Judges:
    """The official checkers, in a process that stays."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("official_driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def refusing(self, **questions: dict[str, Any]) -> list[str]:
        """Which of these checkers refuse, each given its arguments."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(list(questions.items())), file=self._process.stdin, flush=True)
        answer: list[str] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@pytest.fixture(scope="module")
def judges() -> Iterator[Judges]:
    started = Judges()
    yield started
    started.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of a short log that nothing is wrong with."""
    log = forge(tmp_path_factory.mktemp("whole") / "result_0.txt", seed=0, epochs=1040)
    assert inspect_log(log, RULESET)[1] == []
    return log.read_text().splitlines()


@pytest.fixture(scope="module")
def desk(whole: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunFile]]:
    """A folder with forty logs that together are not refused, and all but the first as runs."""
    folder = tmp_path_factory.mktemp("desk")
    logs = [copied(folder / f"result_{i}.txt", whole, epochs=2140, seed=i) for i in range(RUNS)]
    return folder, [run for run, _ in (inspect_log(log, RULESET) for log in logs[1:]) if run]


def test_they_refuse_nothing_that_is_whole(
    whole: list[str], desk: tuple[Path, list[RunFile]], judges: Judges
) -> None:
    folder, others = desk
    logs = sorted(map(str, folder.iterdir()))
    assert len(others) == RUNS - 1
    (folder / "result_0.txt").write_text("\n".join(whole))
    assert judges.refusing(
        compliance={"path": logs[0], "ruleset": RULESET},
        readable={"path": logs[0], "ruleset": RULESET},
        seeds={"paths": logs, "ruleset": RULESET},
        convergence={"folder": str(folder), "ruleset": RULESET},
        count={"folder": str(folder)},
    ) == []  # fmt: skip


@pytest.mark.parametrize("spoil", spoilings.OF_A_LOG, ids=lambda spoil: spoil.__name__)
def test_what_they_refuse_of_a_log_we_refuse(
    spoil: spoilings.Spoiling, whole: list[str], desk: tuple[Path, list[RunFile]], judges: Judges
) -> None:
    folder, others = desk
    log = folder / "result_0.txt"

    @SEARCH
    @given(st.data())
    def spoilt(data: st.DataObject) -> None:
        log.write_text("\n".join(spoil(whole, data.draw)) + "\n")
        questions: dict[str, dict[str, Any]] = {
            "compliance": {"path": str(log), "ruleset": RULESET},
            "readable": {"path": str(log), "ruleset": RULESET},
            "seeds": {"paths": [str(log), str(folder / "result_1.txt")], "ruleset": RULESET},
        }
        if spoil in NEEDS_THE_SET:
            questions["convergence"] = {"folder": str(folder), "ruleset": RULESET}
        refused = judges.refusing(**questions)
        run, objections = inspect_log(log, RULESET)
        objections += of_set(folder, [*([run] if run else []), *others], RUNS, RULESET)
        assert objections or not refused, refused

    spoilt()


def leaned(lines: list[str]) -> list[str]:
    """Without what neither seeds nor convergence are read from."""
    return [line for line in lines if not re.search('"key": "(block|tracked|weights)', line)]


def test_what_they_refuse_of_a_set_we_refuse_and_no_more_runs_than_they(
    whole: list[str], tmp_path: Path, judges: Judges
) -> None:
    """Convergence, runs that miss the target, seeds and the number of logs: here the answers are the same."""
    logs = [tmp_path / f"result_{i}.txt" for i in range(RUNS + 1)]
    lean = leaned(whole)

    @settings(SEARCH, max_examples=5 * EXAMPLES)
    @given(st.data())
    def forty(data: st.DataObject) -> None:
        usual = data.draw(st.integers(95, 115), "twenties of epochs")
        batch = data.draw(st.sampled_from((56, 56, 28, 14, 70, 84, 168)), "batch size")
        missed = data.draw(st.integers(0, 6), "runs that miss the target")
        count = data.draw(st.sampled_from((RUNS, RUNS, RUNS, RUNS - 1, RUNS + 1)), "logs")
        twin = data.draw(st.sampled_from((None, None, 0, 3)), "whose seed the last log has")
        for log in logs:
            log.unlink(missing_ok=True)
        runs = []
        for i, log in enumerate(logs[:count]):
            seed = twin if i == count - 1 and twin is not None else i
            copied(log, lean, epochs=20 * (usual + i % 7 - 3), seed=seed, global_batch_size=batch)
            if i < missed:
                text = log.read_text()
                log.write_text(
                    text.replace('"status": "success"', '"status": "aborted"').replace("0.909", "0.9")
                )
            runs += [run for run, _ in [inspect_log(log, RULESET)] if run]
        refused = judges.refusing(
            count={"folder": str(tmp_path)},
            seeds={"paths": [str(run.path) for run in runs], "ruleset": RULESET},
            convergence={"folder": str(tmp_path), "ruleset": RULESET},
        )
        rules = {objection.rule for objection in of_set(tmp_path, runs, count, RULESET)}
        assert ("count" in rules) == ("count" in refused)
        assert ("one seed" in rules) == ("seeds" in refused)
        assert bool({"convergence", "unconverged"} & rules) == ("convergence" in refused)
        assert rules <= {"count", "one seed", "convergence", "unconverged"}

    forty()


@pytest.mark.parametrize("field", FIELDS)
def test_what_they_refuse_of_a_system_we_refuse(field: str, tmp_path: Path, judges: Judges) -> None:
    (tmp_path / "results" / "eight").mkdir(parents=True)
    path = tmp_path / "systems" / "eight.json"

    def refused() -> list[str]:
        return judges.refusing(
            system={"path": str(path), "ruleset": RULESET},
            summary={"package": str(tmp_path), "ruleset": RULESET},
        )

    described(path)
    assert refused() == []
    for value in (None, 8, "", "eight", "0", "-1", [], {"a": "b"}):
        described(path, **{field: value})
        assert inspect_system(path, read_system(path)) or not refused(), value


@pytest.mark.parametrize("ruleset", RULESETS[:-1])
def test_logs_of_earlier_rulesets_count_as_these_want(ruleset: str, tmp_path: Path, judges: Judges) -> None:
    log = forge(tmp_path / "whole" / "result_0.txt", epochs=1060, ruleset=ruleset)
    lines = log.read_text().splitlines()
    assert inspect_log(log, ruleset)[1] == []
    folder = tmp_path / "set"
    folder.mkdir()
    lean = leaned(lines)
    for i, epochs in enumerate(drawn(ruleset=ruleset)):
        copied(folder / f"result_{i}.txt", lean, epochs=epochs, seed=i, ruleset=ruleset)
    runs, _ = inspect_logs(folder, result_files(folder)[0], ruleset)
    assert list(of_set(folder, runs, RUNS, ruleset)) == []
    assert judges.refusing(
        compliance={"path": str(log), "ruleset": ruleset},
        seeds={"paths": [str(run.path) for run in runs], "ruleset": ruleset},
        convergence={"folder": str(folder), "ruleset": ruleset},
    ) == []  # fmt: skip


def test_forty_runs_that_meet_the_reference_make_a_package_that_all_checkers_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = forge_set(tmp_path / "results", drawn())
    system = described(tmp_path / "eight.json")
    package = tmp_path / "package"
    asked = submission("build", "--org", ORG, "--system", system, "--results", results, "--out", package)
    said = capsys.readouterr().out
    assert asked == 0, said
    assert "FAILED" not in said
    verdicts = json.loads((tmp_path / "package.checks" / "verdicts.json").read_text())
    assert verdicts["objections"] == []
    tools = verdicts["tools"]
    assert set(tools) == {
        "compliance_checker", "system_desc_checker", "package_checker", "seed_checker", "rcp_checker",
        "repo_checker", "result_summarizer",
    }  # fmt: skip
    assert all(tool["passed"] and not tool["objections"] for tool in tools.values())
    assert tools["compliance_checker"]["says"] == "40 of 40 logs"
    # The mean is slower than the reference's, so that no time is scaled.
    assert not (package / "results" / "eight" / "unet3d" / "scaling.json").exists()
    output = (tmp_path / "package.checks" / "package_checker.txt").read_text()
    assert "PACKAGE CHECKER FOUND NO ERRORS" in output
    assert "bypass" not in output
    assert inspect_package(package, RULESET)[1] == []
    read = read_result(package / "results" / "eight" / "unet3d", result_files(results)[0], None)
    assert f"{read.score_minutes:.2f} minutes" in tools["result_summarizer"]["says"]
