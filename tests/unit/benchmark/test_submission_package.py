"""The tree of a package: where things are, what its scripts do, its code, and what is refused of it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.mllog.score import RUNS
from benchmark.submission.code_files import CodeFiles, code_files, inspect_code
from benchmark.submission.inspect_package import inspect_package, systems_of
from benchmark.submission.layout import MARK, Layout
from benchmark.submission.one_log import RunFile, inspect_log
from benchmark.submission.package import check_place, write_package
from benchmark.submission.system import read_system
from pipelines.errors import DataError
from runtime.mlperf_arguments import TEST_PLATFORM
from tests.unit.benchmark.forged_logs import forge
from tests.unit.benchmark.submissions import described

SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.fixture
def code(tmp_path: Path) -> CodeFiles:
    """An implementation that prints its environment."""
    root = tmp_path / "code"
    (root / "runtime").mkdir(parents=True)
    (root / "runtime" / "run.py").write_text("")
    script = root / "run_and_time.sh"
    script.write_text('#!/usr/bin/env bash\nenv\necho "SEED=$1"\n')
    script.chmod(0o755)
    return CodeFiles(root, (Path("run_and_time.sh"), Path("runtime/run.py")), "two files")


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFile]:
    found = []
    for i in (7, 12):
        log = forge(tmp_path / "runs" / f"result_{i}.txt", seed=i, epochs=1000)
        run, objections = inspect_log(log, "4.0.0")
        assert run is not None
        assert objections == []
        found.append(run)
    return found


@pytest.fixture
def package(tmp_path: Path, code: CodeFiles, runs: list[RunFile]) -> Layout:
    return write(tmp_path, code, runs)


def write(folder: Path, code: CodeFiles, runs: list[RunFile], *, rehearsal: bool = False) -> Layout:
    layout = Layout(folder / "package", "eight")
    system = read_system(described(folder / "eight.json"))
    files = [run.path for run in runs]
    write_package(layout, system, files, runs, code, "4.0.0", rehearsal=rehearsal)
    return layout


def test_the_tree_is_that_of_the_submission_rules(package: Layout, runs: list[RunFile]) -> None:
    files = {str(path.relative_to(package.root)) for path in package.root.rglob("*") if path.is_file()}
    assert files == {
        "systems/eight.json",
        "results/eight/unet3d/result_0.txt",
        "results/eight/unet3d/result_1.txt",
        "benchmarks/unet3d/implementations/pytorch/run_and_time.sh",
        "benchmarks/unet3d/implementations/pytorch/runtime/run.py",
        "benchmarks/unet3d/eight/eight_pytorch.json",
        "benchmarks/unet3d/eight/README.md",
        "benchmarks/unet3d/eight/setup.sh",
        "benchmarks/unet3d/eight/init_datasets.sh",
        "benchmarks/unet3d/eight/run_and_time.sh",
    }
    assert [log.read_bytes() for log in package.logs()] == [run.path.read_bytes() for run in runs]
    assert json.loads(package.metadata.read_text())["hyperparameters"]["opt_base_learning_rate"] == 2.0
    readme = (package.scripts / "README.md").read_text()
    assert "| opt_base_learning_rate | 2.0 |" in readme
    assert "2 runs of MLPerf U-Net3D on KiTS19 under the rules 4.0.0" in readme
    assert not any(path.name.startswith("package.") for path in package.root.parent.iterdir())


def test_its_scripts_are_clean(package: Layout) -> None:
    assert SHELLCHECK
    subprocess.run([SHELLCHECK, *package.scripts.glob("*.sh")], check=True)
    assert all(os.access(path, os.X_OK) for path in package.scripts.glob("*.sh"))


def test_its_run_has_the_settings_of_the_logs(package: Layout) -> None:
    done = subprocess.run(
        [package.scripts / "run_and_time.sh", "17"],
        env={"PATH": os.environ["PATH"], "LEARNING_RATE": "3.0"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    for setting in (
        "SEED=17", "OPTIMIZER=sgd", "LR_WARMUP_EPOCHS=1000", "INPUT_SHAPE=128 128 128", "BATCH_SIZE=7",
        "NPROC=8", "MLPERF_DIVISION=closed", "MLPERF_RULESET=4.0.0", "MLPERF_ORG=voxelrate",
        "MAX_EPOCHS=10000",
        "LEARNING_RATE=3.0",  # what the environment has goes first
    ):  # fmt: skip
        assert setting in lines


def test_a_platform_of_any_letters_is_kept(tmp_path: Path, code: CodeFiles) -> None:
    platform = 'a "b" $HOME `id` \\ }'
    log = forge(tmp_path / "result_0.txt", epochs=1000, flags=("--mlperf_platform", platform))
    run, _ = inspect_log(log, "4.0.0")
    assert run is not None
    layout = write(tmp_path, code, [run])
    done = subprocess.run([layout.scripts / "run_and_time.sh"], capture_output=True, text=True, check=True)
    assert f"MLPERF_PLATFORM={platform}" in done.stdout.splitlines()


def test_a_rehearsal_is_marked(tmp_path: Path, code: CodeFiles) -> None:
    log = forge(tmp_path / "result_0.txt", epochs=1000, flags=("--mlperf_division", "closed-test"))
    run, objections = inspect_log(log, "4.0.0", rehearsal=True)
    assert run is not None
    assert run.is_test
    assert objections == []
    layout = write(tmp_path, code, [run], rehearsal=True)
    assert "is not to be submitted" in (layout.root / MARK).read_text()
    system = read_system(layout.description)
    assert system["submitter"] == f"{TEST_PLATFORM}voxelrate"
    assert system["system_name"] == f"{TEST_PLATFORM}eight of them"
    script = (layout.scripts / "run_and_time.sh").read_text()
    assert '"${MLPERF_DIVISION:=closed-test}"' in script
    assert TEST_PLATFORM not in script
    assert "rehearsal" in {objection.rule for objection in inspect_package(layout.root, "4.0.0")[1]}


def test_nothing_is_left_of_a_package_that_cannot_be_written(
    tmp_path: Path, code: CodeFiles, runs: list[RunFile]
) -> None:
    (code.root / "runtime" / "run.py").unlink()
    with pytest.raises(FileNotFoundError):
        write(tmp_path, code, runs)
    assert not any("package" in path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("taken", "exists, expected a new folder; a package is never written over"),
        ("two words", "expected no blank and no leading dot"),
        (".hidden", "expected no blank and no leading dot"),
        ("a[1]", r"has \[ and \] in it"),
    ],
)
def test_places_that_a_package_cannot_go_to(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match=words):
        check_place(tmp_path / name)
    check_place(tmp_path / "new")


def test_code_is_what_git_tracks(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    for name in ("main.py", "runtime/run.py", ".ci/run", "results/record.json", "removed.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    (tmp_path / "removed.py").unlink()
    (tmp_path / "main.py").write_text("2")
    (tmp_path / "new.py").write_text("3")
    (tmp_path / "data.npy").write_text("4")
    found = code_files(tmp_path)
    assert found.paths == (Path("main.py"), Path("runtime/run.py"))
    assert found.rule.startswith("the files that git tracks")
    assert found.notes == (
        "2 files of the code differ from the commit, first main.py",
        "1 files of code are not in the package because git does not track them, first new.py",
    )
    shutil.rmtree(tmp_path / ".git")
    found = code_files(tmp_path)
    assert found.paths == tuple(map(Path, ("data.npy", "main.py", "new.py", "runtime/run.py")))
    assert found.rule.startswith("all files, there is no git checkout")


def test_code_that_repo_checker_refuses(tmp_path: Path) -> None:
    (tmp_path / "two words.py").write_text("")
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate((50 << 20) + 1)
    rules = [objection.rule for objection in inspect_code(code_files(tmp_path))]
    assert sorted(rules) == ["file names", "file sizes"]


def drop_readme(package: Layout) -> None:
    (package.scripts / "README.md").unlink()


def empty_code(package: Layout) -> None:
    shutil.rmtree(package.implementation)


def bypass(package: Layout) -> None:
    (package.results / "package_checker_params").write_text("rcp-bypass")


def bypass_above(package: Layout) -> None:
    (package.results.parent / "package_checker_params").write_text("seed-checker-bypass")


def another_benchmark(package: Layout) -> None:
    (package.results.parent / "bert").mkdir()


def another_file(package: Layout) -> None:
    (package.results / "compliance.txt").write_text("")


def hidden(package: Layout) -> None:
    (package.implementation / ".git").mkdir()


def link(package: Layout) -> None:
    (package.implementation / "link").symlink_to(package.description)


def no_description(package: Layout) -> None:
    package.description.rename(package.description.with_name("nine.json"))


def broken_description(package: Layout) -> None:
    described(package.description.with_name("nine.json"), cooling=None)


def misnumbered(package: Layout) -> None:
    (package.results / "result_1.txt").rename(package.results / "result_2.txt")


def misnamed(package: Layout) -> None:
    (package.results / "result_1.txt").rename(package.results / "result_b.txt")


def no_logs(package: Layout) -> None:
    shutil.rmtree(package.results)


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (drop_readme, "code"), (empty_code, "code"), (bypass, "bypass"), (bypass_above, "bypass"),
        (another_benchmark, "other files"), (another_file, "other files"), (hidden, "file names"),
        (link, "file sizes"), (no_description, "system fields"), (broken_description, "system fields"),
        (misnumbered, "numbering"), (misnamed, "numbering"), (no_logs, "count"),
    ],
)  # fmt: skip
def test_a_spoilt_tree_is_refused_by_name(
    spoil: Callable[[Layout], None], rule: str, package: Layout
) -> None:
    layouts, before = inspect_package(package.root, "4.0.0")
    assert layouts == [package]
    # Two runs are no result, and that is all.
    assert {objection.rule for objection in before} == {"count"}
    assert f"2 logs, expected {RUNS}" in before[0].found
    spoil(package)
    assert rule in {objection.rule for objection in inspect_package(package.root, "4.0.0")[1]}


def test_scaling_json_belongs_beside_the_logs(package: Layout) -> None:
    (package.results / "scaling.json").write_text('{"scaling_factor": 1.02}')
    assert {objection.rule for objection in inspect_package(package.root, "4.0.0")[1]} == {"count"}


def test_folders_that_are_no_package(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folders results and systems, expected a package"):
        systems_of(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "systems").mkdir()
    with pytest.raises(DataError, match="is empty, expected a folder for each system"):
        systems_of(tmp_path)
