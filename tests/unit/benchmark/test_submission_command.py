"""The command, with the official checkers' verdicts replaced: who is asked when, and what is kept."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmark.submission import command, official
from benchmark.submission.answers import Verdict
from benchmark.submission.code_files import CodeFiles
from benchmark.submission.layout import Layout
from pipelines.errors import DataError
from tests.unit.benchmark.forged_logs import drawn, forge, forge_set
from tests.unit.benchmark.spoilings import edited, places
from tests.unit.benchmark.submissions import ORG, described, submission

Judge = Callable[[Path, Sequence[Layout], str], list[Verdict]]


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forge_set(tmp_path_factory.mktemp("forty"), drawn())


@pytest.fixture
def results(forty: Path, tmp_path: Path) -> Path:
    """A copy of the forty, to spoil."""
    folder = tmp_path / "results"
    folder.mkdir()
    for log in forty.iterdir():
        (folder / log.name).hardlink_to(log)
    return folder


@pytest.fixture(autouse=True)
def _little_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "main.py").write_text("")
    code = CodeFiles(tmp_path / "code", (Path("main.py"),), "one file", ("2 files are strangers",))
    monkeypatch.setattr(command, "code_files", lambda: code)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rulesets that the official checkers were asked by; they let everything pass."""
    rulesets: list[str] = []

    def judge(root: Path, layouts: Sequence[Layout], ruleset: str) -> list[Verdict]:
        rulesets.append(ruleset)
        return [Verdict("package_checker", True, "", (), {"package_checker.txt": "fine\n"})]

    monkeypatch.setattr(official, "judge", judge)
    return rulesets


def build(folder: Path, results: Path, *flags: object) -> int:
    system = folder / "eight.json"
    if not system.exists():
        described(system)
    package = folder / "package"
    return submission(
        "build", "--org", ORG, "--system", system, "--results", results, "--out", package, *flags
    )


def change(log: Path, key: str, rename: str | None) -> None:
    """Rename the events of a key, or drop them."""
    lines = log.read_text().splitlines()
    for place in reversed(places(lines, key)):
        lines = edited(lines, place, lambda event: event.update(key=rename)) if rename else [
            *lines[:place], *lines[place + 1 :]
        ]  # fmt: skip
    log.unlink()  # it is a link to what other tests take
    log.write_text("\n".join(lines) + "\n")


def wrong_learning_rate(results: Path) -> None:
    change(results / "result_7.txt", "opt_base_learning_rate", "opt_learning_rate")


def no_seed(results: Path) -> None:
    change(results / "result_7.txt", "seed", None)


def thirty_nine(results: Path) -> None:
    (results / "result_7.txt").unlink()


def too_fast(results: Path) -> None:
    for i, log in enumerate(sorted(results.iterdir())):
        log.unlink()
        forge(log, seed=i, epochs=1800)


def cut(results: Path) -> None:
    text = (results / "result_7.txt").read_text()
    (results / "result_7.txt").unlink()
    (results / "result_7.txt").write_text(text[: len(text) // 2])


def one_seed(results: Path) -> None:
    (results / "result_7.txt").unlink()
    forge(results / "result_7.txt", seed=1008, epochs=2400)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (wrong_learning_rate, "result_7.txt: logs no opt_base_learning_rate, expected it once"),
        (
            wrong_learning_rate,
            "logs opt_learning_rate, which no reference point has, expected opt_base_learning_",
        ),
        (
            no_seed,
            "result_7.txt: logs no seed, expected it once; give the run a seed of its own and make it again",
        ),
        (thirty_nine, "results: 39 logs, expected 40; make the others"),
        (
            too_fast,
            "converges in 302,400 samples (mean without 4 runs at each end), expected 334,053 at least",
        ),
        (cut, "is cut or garbled"),
        (one_seed, "seed 1008 is that of result_7.txt, expected another one in each run"),
    ],
)
def test_a_spoilt_result_is_refused_before_an_official_checker_is_asked(
    spoil: Callable[[Path], None],
    words: str,
    results: Path,
    tmp_path: Path,
    asked: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(results)
    assert build(tmp_path, results) == 1
    said = capsys.readouterr().out
    assert words in said
    assert "no package was made, and no official checker was asked: " in said
    assert asked == []
    assert not (tmp_path / "package").exists()
    assert not (tmp_path / "package.checks").exists()


def test_a_package_is_made_asked_about_and_never_written_over(
    results: Path, tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path, results) == 0
    said = capsys.readouterr().out.splitlines()
    package = tmp_path / "package"
    assert said == [
        f"{package}: 40 logs, 1 files of code (one file)",
        "note: 2 files are strangers",
        "package_checker  OK",
        f"{package}.checks: all that they printed, and verdicts.json",
    ]
    assert asked == ["4.0.0"]
    checks = tmp_path / "package.checks"
    assert (checks / "package_checker.txt").read_text() == "fine\n"
    assert json.loads((checks / "verdicts.json").read_text()) == {
        "ruleset": "4.0.0",
        "rehearsal": False,
        "objections": [],
        "tools": {"package_checker": {"passed": True, "says": "", "objections": []}},
    }
    with pytest.raises(DataError, match="exists, expected a new folder"):
        build(tmp_path, results)
    assert submission("check", package) == 0
    # What was kept of the first time has its time in its name now.
    assert len(list(tmp_path.glob("package*.checks"))) == 2


def test_one_failed_verdict_is_a_failure(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def judge(root: Path, layouts: Sequence[Layout], ruleset: str) -> list[Verdict]:
        (layouts[0].results / "scaling.json").write_text('{"scaling_factor": 1.0123}')
        return [
            Verdict("rcp_checker", True, "fine"),
            Verdict("repo_checker", False, "too large", ("too large",)),
        ]

    monkeypatch.setattr(official, "judge", judge)
    assert build(tmp_path, results) == 1
    said = capsys.readouterr().out
    assert (
        "rcp_checker   OK (fine)\nrepo_checker  FAILED (too large): rename, shrink or remove what it names\n"
        in said
    )
    assert (
        "scaling.json: package_checker multiplies the time by 1.0123, because the runs converge faster"
        in said
    )


def test_check_says_what_is_wrong_and_asks_all_the_same(
    results: Path, tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path, results)
    thirty_nine(tmp_path / "package" / "results" / "eight" / "unet3d")
    assert submission("check", tmp_path / "package") == 1
    said = capsys.readouterr().out
    assert "39 logs, expected 40" in said
    assert len(asked) == 2
    verdicts = json.loads((tmp_path / "package.checks" / "verdicts.json").read_text())
    assert [objection["rule"] for objection in verdicts["objections"]] == ["numbering", "count"]


def rehearsed(folder: Path, count: int, *flags: str) -> Path:
    epochs = [1000] * count
    return forge_set(
        folder / "tests", epochs, converges=False, flags=("--mlperf_division", "closed-test", *flags)
    )


def test_a_rehearsal_lists_what_would_be_refused(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tests = rehearsed(tmp_path, 3)
    assert build(tmp_path, tests) == 1
    assert "submission_platform begins with 'TEST, not for submission: '" in capsys.readouterr().out
    assert asked == []
    assert build(tmp_path, tests, "--rehearsal") == 0
    assert (tmp_path / "package" / "NOT_FOR_SUBMISSION").is_file()
    assert asked == ["4.0.0"]
    verdicts = json.loads((tmp_path / "package.checks" / "verdicts.json").read_text())
    assert verdicts["rehearsal"]
    assert [objection["rule"] for objection in verdicts["objections"]] == ["count"]


def test_a_rehearsal_takes_test_runs_alone(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tests = rehearsed(tmp_path, 2)
    forge(tests / "result_2.txt", seed=5, epochs=1000)
    assert build(tmp_path, tests, "--rehearsal") == 1
    assert 'result_2.txt: submission_platform is "8xcuda", expected a test run' in capsys.readouterr().out
    assert asked == []


def test_a_rehearsal_bears_a_poor_description(tmp_path: Path, asked: list[str]) -> None:
    described(tmp_path / "eight.json", number_of_nodes="", accelerators_per_node=None, framework=None)
    assert build(tmp_path, rehearsed(tmp_path, 1), "--rehearsal") == 0
    assert asked == ["4.0.0"]


def test_status_of_the_description_has_to_fit(
    results: Path, tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    described(tmp_path / "eight.json", status="Available cloud")
    assert build(tmp_path, results) == 1
    assert (
        'status is "Available cloud", expected "Research, Development, or Internal' in capsys.readouterr().out
    )


def test_a_place_that_cannot_be_written_is_told_in_a_sentence(
    results: Path, tmp_path: Path, asked: list[str]
) -> None:
    system = described(tmp_path / "eight.json")
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "package"
    with pytest.raises(DataError, match=r"package cannot be written \(.*\), expected room for a package"):
        submission("build", "--org", ORG, "--system", system, "--results", results, "--out", out)
    assert asked == []


def test_wrong_flags_are_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        submission("build", "--org", ORG)
    with pytest.raises(SystemExit, match="2"):
        submission("check", "package", "--ruleset", "5.0.0")
    assert "invalid choice: '5.0.0'" in capsys.readouterr().err
