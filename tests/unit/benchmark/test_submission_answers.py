"""Verdicts from what the official checkers print: their exit status alone says little."""

from pathlib import Path

import pytest

from benchmark.submission import official
from benchmark.submission.answers import Answer, Verdict, complaints_of
from benchmark.submission.layout import Layout
from benchmark.submission.official import judge
from runtime.errors import RunError

TARGET = "WARNING -  Failed checks for eval_accuracy :  v['value'] >= 0.908 \nERROR - FAILED\n"
PACKAGE = (
    "INFO -  Running Seed Checker\nINFO - ----\nINFO -  Running RCP Checker, pass: pruned_rcps\n"
    "INFO - RCP Test Passed: RCP found\nINFO - PACKAGE CHECKER FOUND NO ERRORS, SUCCESS !\n"
)
TABLE = "system,unet3d:time_to_train,unet3d:RCP,unet3d:rcp_scaling_factor\neight,12.5,Pass,{factor}\n"
GOOD = {
    "compliance_checker": Answer(("python",), 0, "INFO - SUCCESS\n"),
    "system_desc_checker": Answer(("python",), 0, "INFO -   System description checker passed for eight\n"),
    "package_checker": Answer(("python",), 0, PACKAGE),
    "rcp_checker": Answer(("python",), 0, "INFO - RCP found, RCP test PASSED\n"),
    "repo_checker": Answer(("python",), 0, "INFO - ALL CHECKS PASSED.\n"),
    "result_summarizer": Answer(
        ("python",), 0, "Strong Scaling Scores:\n", {"summary_detailed.csv": TABLE.format(factor="1.0")}
    ),
}


@pytest.fixture
def package(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "package", "eight")
    layout.results.mkdir(parents=True)
    for i in range(12):
        (layout.results / f"result_{i}.txt").touch()
    return layout


def verdicts(
    monkeypatch: pytest.MonkeyPatch, package: Layout, ruleset: str = "4.0.0", **answers: Answer
) -> dict[str, Verdict]:
    """With the checkers' answers replaced; ``result_2`` answers for the compliance of that log."""

    def ask(tool: str, *arguments: object) -> Answer:
        name = Path(str(arguments[-1])).stem
        return answers.get(name) or answers.get(tool) or GOOD[tool]

    monkeypatch.setattr(official, "ask", ask)
    return {verdict.tool: verdict for verdict in judge(package.root, [package], ruleset)}


def test_all_is_well(monkeypatch: pytest.MonkeyPatch, package: Layout) -> None:
    found = verdicts(monkeypatch, package)
    assert list(found) == [
        "compliance_checker", "system_desc_checker", "package_checker", "seed_checker", "rcp_checker",
        "repo_checker", "result_summarizer",
    ]  # fmt: skip
    assert all(verdict.passed and not verdict.objections for verdict in found.values())
    assert found["result_summarizer"].says == "eight: 12.50 minutes"
    assert "repo_checker" not in verdicts(monkeypatch, package, "1.0.0")


def answer(text: str, status: int = 0) -> Answer:
    return Answer(("python",), status, text)


@pytest.mark.parametrize(
    ("tool", "bad", "objection"),
    [
        ("system_desc_checker", answer("ERROR -   System description checker failed for x : ['Missing']\n"),
         "System description checker failed for x : ['Missing']"),
        ("package_checker", answer("ERROR - Incorrect number of files, found 3, expected 40\nINFO - PACKAGE "
                                   "CHECKER FOUND ERRORS, LOOK INTO ERROR LOG LINES AND FIX THEM.\n"),
         "Incorrect number of files, found 3, expected 40"),
        ("package_checker", answer("Traceback (most recent call last):\nKeyError: 'epoch_num'\n", 1),
         "KeyError: 'epoch_num'"),
        ("rcp_checker", answer("ERROR - Insufficient convergence, RCP test FAILED, consider adding "
                               "--rcp_bypass in when\n", 1),
         "Insufficient convergence, RCP test FAILED"),
        ("rcp_checker", answer("", 1), "it printed nothing"),
        ("repo_checker", answer("ERROR - Files with git-unfriendly name: a b \nINFO - CHECKS FAILED.\n"),
         "Files with git-unfriendly name: a b"),
        ("result_summarizer", answer("CRITICAL ERROR: Too many non-converging runs for x\n"),
         "CRITICAL ERROR: Too many non-converging runs for x"),
        ("result_summarizer", answer("ValueError: invalid literal for int()\n", 1),
         "ValueError: invalid literal for int()"),
    ],
)  # fmt: skip
def test_failures_that_end_with_status_0_too(
    tool: str, bad: Answer, objection: str, monkeypatch: pytest.MonkeyPatch, package: Layout
) -> None:
    found = verdicts(monkeypatch, package, **{tool: bad})[tool]
    assert not found.passed
    assert objection in found.objections
    assert objection in found.says


def test_a_seed_checker_that_did_not_run_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, package: Layout
) -> None:
    skipped = "INFO - PACKAGE CHECKER FOUND NO ERRORS, SUCCESS !\n"  # what division Closed brings about
    found = verdicts(monkeypatch, package, package_checker=answer(skipped))
    assert found["package_checker"].passed
    assert not found["seed_checker"].passed
    assert found["seed_checker"].says == "it did not run"


def test_seeds_that_are_refused_are_named(monkeypatch: pytest.MonkeyPatch, package: Layout) -> None:
    text = PACKAGE.replace(
        "INFO - ----",
        "ERROR -  Seed checker failed and found the following errors: Result file /x/result_1.txt logs no "
        "seed.\nResult file /x/result_2.txt logs seed 3 on a.py:4. However, result file /x/result_1.txt\n"
        "ERROR - Seed checker failed",
    )
    found = verdicts(monkeypatch, package, package_checker=answer(text))["seed_checker"]
    assert not found.passed
    assert found.objections[0] == "Result file /x/result_1.txt logs no seed."
    assert found.objections[1].startswith("Result file /x/result_2.txt logs seed 3")


def test_runs_that_missed_the_target_are_borne_four_times(
    monkeypatch: pytest.MonkeyPatch, package: Layout
) -> None:
    missed = {f"result_{i}": answer(TARGET, 1) for i in range(4)}
    found = verdicts(monkeypatch, package, **missed)["compliance_checker"]
    assert found.passed
    assert found.says == "8 of 12 logs; 4 never reached the target, and olympic scoring accepts 4 of a result"
    assert found.objections == tuple(f"result_{i}.txt: eval_accuracy: v['value'] >= 0.908" for i in range(4))
    missed["result_4"] = answer(TARGET, 1)
    assert not verdicts(monkeypatch, package, **missed)["compliance_checker"].passed


@pytest.mark.parametrize(
    "text",
    [
        "WARNING -  Required EXACTLY_ONE occurrence of 'seed' but found 0\nERROR - FAILED\n",
        f"{TARGET}WARNING -  Required EXACTLY_ONE occurrence of 'seed' but found 0\n",
        "Traceback (most recent call last):\nTypeError: no\n",
    ],
)
def test_one_log_that_does_not_comply_fails(
    text: str, monkeypatch: pytest.MonkeyPatch, package: Layout
) -> None:
    found = verdicts(monkeypatch, package, result_3=answer(text, 1))["compliance_checker"]
    assert not found.passed
    assert "1 do not comply, first result_3.txt: " in found.says


def test_complaints_do_not_depend_on_where_the_log_is() -> None:
    text = (
        "WARNING -  CHECK for 'init_stop' failed in line 3:\n:::MLLOG {}\nfailed test: s['init_started']\n"
        "current context[s]={}\n------------------------------\n"
        "Required EXACTLY_ONE occurrence of 'seed' but found 0\n------------------------------\n"
        "Failed checks for eval_accuracy :  v['value'] >= 0.908 \nERROR - FAILED\n"
    )
    assert complaints_of(answer(text, 1)) == [
        "init_stop: s['init_started']",
        "Required EXACTLY_ONE occurrence of 'seed' but found 0",
        "eval_accuracy: v['value'] >= 0.908",
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "0 systems in its table, expected 1"),
        ("system,unet3d:time_to_train,unet3d:RCP,unet3d:rcp_scaling_factor\neight,,Fail,1.0\n",
         "eight: no minutes to train, RCP: Fail"),
    ],
)  # fmt: skip
def test_a_summary_without_a_time_fails(
    table: str, words: str, monkeypatch: pytest.MonkeyPatch, package: Layout
) -> None:
    bad = Answer(("python",), 0, "", {"summary_detailed.csv": table})
    found = verdicts(monkeypatch, package, result_summarizer=bad)["result_summarizer"]
    assert not found.passed
    assert words in found.says


def test_a_scaled_time_says_so(monkeypatch: pytest.MonkeyPatch, package: Layout) -> None:
    scaled = Answer(("python",), 0, "", {"summary_detailed.csv": TABLE.format(factor="1.0321")})
    found = verdicts(monkeypatch, package, result_summarizer=scaled)["result_summarizer"]
    assert found.says == "eight: 12.50 minutes, scaled by 1.0321 (scaling.json)"


def test_without_mlperf_logging_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "find_spec", lambda name: None)
    with pytest.raises(RunError, match="pip install mlperf-logging"):
        official.ask("rcp_checker")


def test_a_checker_runs_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    done = official.ask("repo_checker", tmp_path / "a", "training", "4.0.0")
    assert done.status == 0
    assert "ALL CHECKS PASSED" in done.text
    assert done.whole.startswith("$ python -m mlperf_logging.repo_checker ")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
