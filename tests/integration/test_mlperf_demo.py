"""The whole way of an MLPerf result in miniature, as ``make mlperf-demo`` goes it with larger volumes."""

import json
from pathlib import Path

import pytest

from benchmark.submission.demo import compared
from runtime.mlperf_arguments import TEST_PLATFORM
from tests.integration.conftest import python, succeed


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("demo")
    output = succeed("-m", "benchmark", "submission", "demo", "--work", work, "--small", timeout=500)
    assert "as expected" in output.splitlines()[-1]
    return work


@pytest.mark.slow
def test_three_runs_become_a_package_that_is_marked(gone: Path) -> None:
    logs = sorted((gone / "package/results/cpu_phantom/unet3d").iterdir())
    assert [log.name for log in logs] == ["result_0.txt", "result_1.txt", "result_2.txt"]
    assert (gone / "package/NOT_FOR_SUBMISSION").exists()
    assert (gone / "package/benchmarks/unet3d/implementations").is_dir()
    for log in logs:
        events = {}
        for line in log.read_text().splitlines():
            event = json.loads(line.removeprefix(":::MLLOG "))
            events.setdefault(event["key"], event["value"])
        assert events["submission_division"] == "closed"
        assert events["submission_platform"].startswith(TEST_PLATFORM)
        assert (events["train_samples"], events["eval_samples"]) == (168, 42)
        assert events["tracked_stats"]["throughput"] > 0
    checks = {path.name for path in (gone / "package.checks").iterdir()}
    assert {"compliance_checker.txt", "package_checker.txt", "rcp_checker.txt", "verdicts.json"} <= checks


@pytest.mark.slow
def test_test_runs_cannot_be_packaged_otherwise(gone: Path) -> None:
    done = python(
        "-m", "benchmark", "submission", "build", "--org", "voxelrate", "--system", gone / "cpu_phantom.json",
        "--results", gone / "results", "--out", gone / "another",
    )  # fmt: skip
    assert done.returncode == 1
    assert "[test run]" in done.stdout
    assert "no package was made, and no official checker was asked" in done.stdout
    assert not (gone / "another").exists()


@pytest.mark.slow
def test_what_differs_is_found(gone: Path) -> None:
    def differing(**changes: object) -> list[str]:
        verdicts = json.loads((gone / "package.checks/verdicts.json").read_text())
        verdicts["tools"]["seed_checker"] |= changes
        return compared(verdicts, small=True)

    assert differing() == []
    assert differing(passed=False) == ["failing checkers: seed_checker"]
    verdicts = json.loads((gone / "package.checks/verdicts.json").read_text())
    verdicts["objections"] = verdicts["objections"][:-1]
    assert compared(verdicts, small=True) == ["our objections: lacks count: 3 logs, expected 40"]
    assert compared(verdicts, small=False) != []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = python("-m", "benchmark", "submission", "demo", "--work", tmp_path, "--small")
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
