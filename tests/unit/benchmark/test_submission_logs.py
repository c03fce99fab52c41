"""What is refused of logs, one by one and together: each rule by name, with what to do about it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmark.mllog.score import RUNS
from benchmark.submission import keys
from benchmark.submission.gather import inspect_logs, result_files
from benchmark.submission.log_set import convergence, of_set
from benchmark.submission.objections import EXTRA, OFFICIAL, Objection, sentences
from benchmark.submission.one_log import RunFile, inspect_log
from pipelines.errors import DataError
from runtime.mlperf_arguments import TEST_PLATFORM
from runtime.rcp import load_rcps
from tests.unit.benchmark.forged_logs import copied, forge
from tests.unit.benchmark.spoilings import event, line_of, places

Change = Callable[[list[dict[str, Any]]], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return forge(tmp_path_factory.mktemp("whole") / "result_0.txt", epochs=1060).read_text().splitlines()


def written(path: Path, lines: Sequence[str], change: Change = lambda events: None) -> Path:
    """A log with changed events."""
    events = [event(line) for line in lines]
    change(events)
    path.write_text("".join(f"{line_of(one)}\n" for one in events))
    return path


def first(events: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next(one for one in events if one["key"] == key)


def value(key: str, new: Any) -> Change:
    return lambda events: first(events, key).update(value=new)


def without(key: str) -> Change:
    return lambda events: events.remove(first(events, key))


def again(key: str) -> Change:
    return lambda events: events.insert(events.index(first(events, key)), first(events, key))


def metadata(key: str, **new: Any) -> Change:
    return lambda events: first(events, key)["metadata"].update(new)


def moved(key: str, before: str) -> Change:
    def change(events: list[dict[str, Any]]) -> None:
        one = first(events, key)
        events.remove(one)
        events.insert(events.index(first(events, before)), one)

    return change


def late(events: list[dict[str, Any]]) -> None:
    for one in events[events.index(first(events, "init_stop")) :]:
        one["time_ms"] += 30 * 60_000


def renamed(events: list[dict[str, Any]]) -> None:
    first(events, "opt_base_learning_rate")["key"] = "opt_learning_rate"


def unplaced(events: list[dict[str, Any]]) -> None:
    del first(events, "seed")["metadata"]["lineno"]


def resumed(events: list[dict[str, Any]]) -> None:
    for one in events:
        if one["key"].startswith("block"):
            one["metadata"]["first_epoch_num"] += 40


def event_before(key: str, content: Any) -> Change:
    """One more, before the clock starts."""

    def change(events: list[dict[str, Any]]) -> None:
        start = first(events, "run_start")
        other = {"key": key, "value": content, "event_type": "POINT_IN_TIME"}
        events.insert(events.index(start), start | other)

    return change


def missed(events: list[dict[str, Any]]) -> None:
    events[-3]["value"] = 0.9


def on_target_before(events: list[dict[str, Any]]) -> None:
    first(events, "eval_accuracy")["value"] = 0.92


def backwards(events: list[dict[str, Any]]) -> None:
    first(events, "eval_accuracy")["metadata"]["epoch_num"] += 168_000


SPOILT: dict[str, tuple[str, Change, str]] = {
    "a stray word": ("stray words", value("opt_name", "sgd, see eval_accuracy"), "has the word eval_acc"),
    "a wrong LR key": ("keys", renamed, "logs no opt_base_learning_rate, expected it once"),
    "a key of our own": ("optimizer keys", renamed, "logs opt_learning_rate, which no reference point has"),
    "no initial LR": ("optimizer keys", without("opt_initial_learning_rate"), "logs no opt_initial_learning"),
    "no seed": ("seeds", without("seed"), "logs no seed, expected it once"),
    "a seed in words": ("seeds", value("seed", "1"), 'seed is "1", expected a whole number'),
    "a seed without line": ("seeds", unplaced, "the seed has no lineno in its metadata"),
    "a key twice": ("duplicate keys", again("opt_momentum"), "logs opt_momentum 2 times with 0.9, expected"),
    "no batch size": ("values", value("global_batch_size", 0), "global_batch_size is 0, expected a whole"),
    "an odd warm-up": ("values", value("opt_learning_rate_warmup_epochs", -1), "is -1, expected a number"),
    "an odd status": ("values", value("submission_status", "available"), "expected onprem or cloud or "),
    "an odd end": ("values", metadata("run_stop", status="abort"), "has the status abort, expected"),
    "no epoch_num": ("values", metadata("eval_accuracy", epoch_num=None), "has epoch_num null in its meta"),
    "too high a score": ("values", value("eval_accuracy", 90.1), "is 90.1, expected a mean Dice from 0 to 1"),
    "no cache clear": ("cache clear", without("cache_clear"), "logs no cache_clear, expected the caches"),
    "caches cleared late": ("order", moved("cache_clear", "train_samples"), "(cache_clear) is after run_"),
    "data before the clock": ("order", moved("block_start", "run_start"), "is before run_start, expected it"),
    "clock before init": ("order", moved("run_start", "init_stop"), "logs run_start before"),
    "scores backwards": ("order", backwards, "epoch_num does not grow, expected a higher one each time"),
    "a long start": ("init time", late, "takes 30.5 minutes from init_start to init_stop"),
    "two runs": ("one run", again("run_start"), "has 2 run_start, expected one run for each file"),
    "no end": ("one run", without("run_stop"), "has no run_stop: the run did not finish"),
    "open division": ("closed rules", value("submission_division", "open"), 'is "open", expected "closed"'),
    "167 cases": ("closed rules", value("train_samples", 167), "train_samples is 167, expected 168"),
    "another overlap": ("closed rules", value("validation_overlap", 0.25), "is 0.25, expected 0.5"),
    "a dropped batch": ("closed rules", value("samples_per_epoch", 112), "112 samples per epoch at a global"),
    "a resumed run": ("closed rules", resumed, "starts at epoch 41, so that its time"),
    "a run that says so": ("closed rules", event_before("resumed", {"epoch": 3}), "goes on after another"),
    "a bad case": ("closed rules", event_before("bad_case", "case_00007"), "samples of case_00007 were repl"),
    "a false success": ("closed rules", missed, "claims success at a mean Dice of 0.9050, expected 0.908"),
    "a false failure": ("closed rules", metadata("run_stop", status="aborted"), "but its status is aborted"),
    "trained on": ("trained on", on_target_before, "and evaluates again in line"),
    "a test run": ("test run", value("submission_platform", f"{TEST_PLATFORM}8xcuda"), "expected a run"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_log_is_refused_by_name(name: str, whole: list[str], tmp_path: Path) -> None:
    rule, change, words = SPOILT[name]
    path = written(tmp_path / "result_0.txt", whole, change)
    _, objections = inspect_log(path, "4.0.0")
    said = [sentence for sentence in sentences(objections) if sentence.endswith(f"[{rule}]")]
    assert any(words in sentence for sentence in said), sentences(objections)
    assert all(sentence.startswith(f"{path}: ") and "; " in sentence for sentence in said)


def test_a_whole_log_is_not_refused(whole: list[str], tmp_path: Path) -> None:
    run, objections = inspect_log(written(tmp_path / "result_0.txt", whole), "4.0.0")
    assert objections == []
    assert run is not None
    assert run.convergence == 1060 * 168


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda line: line[: len(line) // 2], "is cut or garbled"),
        (lambda line: line + line, "holds 2 :::MLLOG events, expected one"),
        (lambda line: line.replace(":::MLLOG ", ":::MLLOG"), "has no blank after :::MLLOG"),
        (lambda line: line + " done", "is cut or garbled"),
        (lambda line: line.replace('"value"', '"worth"'), "has no value, expected time_ms, key"),
        (lambda line: ":::MLLOG 5", "holds 5, expected a JSON object"),
        (lambda line: line.replace('"metadata": {', '"metadata": [{').replace("}}", "}]}"), "no table"),
        (lambda line: line.replace('"time_ms": 1', '"time_ms": "1"+').replace("+", ""), "is cut or garbled"),
    ],
)  # fmt: skip
def test_a_spoilt_line_is_refused(
    spoil: Callable[[str], str], words: str, whole: list[str], tmp_path: Path
) -> None:
    place = places(whole, "opt_name")[0]
    path = tmp_path / "result_0.txt"
    path.write_text("\n".join([*whole[:place], spoil(whole[place]), *whole[place + 1 :]]))
    run, objections = inspect_log(path, "4.0.0")
    (found,) = (objection for objection in objections if objection.rule == "lines")
    assert f"line {place + 1} " in found.found
    assert words in found.found


def test_a_log_that_is_cut_is_refused(whole: list[str], tmp_path: Path) -> None:
    text = "\n".join(whole)
    path = tmp_path / "result_0.txt"
    path.write_text(text[: len(text) // 2])
    run, objections = inspect_log(path, "4.0.0")
    assert run is None
    assert {"lines", "keys"} <= {objection.rule for objection in objections}


def test_others_output_between_the_lines_is_none_of_our_business(whole: list[str], tmp_path: Path) -> None:
    path = tmp_path / "result_0.txt"
    path.write_text("\n".join(f"epoch 3\n50%|###  \r0: {line}" for line in whole))
    assert inspect_log(path, "4.0.0")[1] == []


def test_an_aborted_run_may_lack_what_it_did_not_reach(tmp_path: Path) -> None:
    run, objections = inspect_log(forge(tmp_path / "result_0.txt", epochs=1060, converges=False), "4.0.0")
    assert objections == []
    assert run is not None
    assert run.convergence is None
    early = forge(tmp_path / "result_1.txt", epochs=500, converges=False)
    assert inspect_log(early, "4.0.0")[1] == []


@pytest.mark.parametrize(("logged", "by"), [("3.0.0", "3.1.0"), ("3.1.0", "3.0.0"), ("4.0.0", "1.0.0")])
def test_a_unit_of_another_ruleset_is_refused(logged: str, by: str, tmp_path: Path) -> None:
    log = forge(tmp_path / "result_0.txt", epochs=1060, ruleset=logged)
    assert inspect_log(log, logged)[1] == []
    assert [objection.rule for objection in inspect_log(log, by)[1]] == ["epoch unit"]


def test_rulesets_that_list_tensors_want_them(whole: list[str], tmp_path: Path) -> None:
    log = written(tmp_path / "result_0.txt", whole, list)
    assert "weights" not in {objection.rule for objection in inspect_log(log, "2.1.0")[1]}
    other = written(tmp_path / "result_1.txt", whole, without("weights_initialization"))
    assert "weights" in {objection.rule for objection in inspect_log(other, "2.1.0")[1]}
    assert inspect_log(other, "4.0.0")[1] == []


def test_hyperparameters_are_those_of_the_reference_points() -> None:
    for point in load_rcps("4.0.0"):
        assert set(point.hyperparameters) == set(keys.OPTIMIZER)


def test_one_sentence_for_the_same_fault_of_many() -> None:
    found = [Objection("keys", f"result_{i}.txt", "logs no seed", "log it") for i in range(5)]
    assert sentences(found) == [
        "result_0.txt, result_1.txt, result_2.txt and 2 more: logs no seed; log it [keys]"
    ]


def test_rules_have_one_name_each() -> None:
    assert not set(OFFICIAL) & set(EXTRA)
    assert len(EXTRA) >= 15


@pytest.fixture(scope="module")
def forty(whole: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[RunFile]:
    """Runs that converge after 2140 epochs; not forged one by one, for speed."""
    folder = tmp_path_factory.mktemp("forty")
    return [at(folder, whole, number, 2140) for number in range(RUNS)]


def at(folder: Path, lines: Sequence[str], number: int, epochs: int, **values: Any) -> RunFile:
    """A run that says it converged after so many epochs."""

    values = {"seed": number} | values
    path = copied(folder / f"result_{number}.txt", lines, epochs=epochs, **values)
    run, _ = inspect_log(path, "4.0.0")
    assert run is not None
    return run


def rules_of(runs: Sequence[RunFile], files: int = RUNS) -> list[str]:
    return [objection.rule for objection in of_set(Path("results"), runs, files, "4.0.0")]


def test_forty_runs_of_one_thing_are_not_refused(forty: list[RunFile]) -> None:
    assert rules_of(forty) == []


def test_sets_are_refused_by_name(forty: list[RunFile], whole: list[str], tmp_path: Path) -> None:
    assert rules_of(forty[1:], 39) == ["count"]
    assert rules_of(forty, 41) == ["count"]
    twin = at(tmp_path, whole, 3, 2140)
    assert rules_of([*forty[:-1], twin]) == ["one seed"]
    for key, other in (
        ("global_batch_size", 28), ("opt_base_learning_rate", 1.0), ("submission_org", "another"),
        ("submission_platform", "4xcuda"), ("submission_status", "cloud"),
    ):  # fmt: skip
        odd = at(tmp_path, whole, 99, 2140, **{key: other})
        (objection,) = of_set(tmp_path, [*forty[:-1], odd], RUNS, "4.0.0")
        assert objection.rule == "same settings"
        assert objection.where == str(odd.path)
        assert f"{key} is {json.dumps(other)}, expected " in objection.found
        assert "as in 39 of 40 logs" in objection.found


def test_five_runs_that_miss_the_target_are_too_many(
    forty: list[RunFile], whole: list[str], tmp_path: Path
) -> None:
    def aborted(number: int) -> RunFile:
        def change(events: list[dict[str, Any]]) -> None:
            missed(events)
            events[-1]["metadata"]["status"] = "aborted"
            first(events, "seed")["value"] = number

        run, objections = inspect_log(written(tmp_path / f"result_{number}.txt", whole, change), "4.0.0")
        assert run is not None
        assert objections == []
        return run

    runs = [aborted(number) for number in range(5)]
    assert rules_of([*runs[:4], *forty[4:]]) == []
    assert rules_of([*runs, *forty[5:]]) == ["unconverged"]


@pytest.mark.parametrize(("epochs", "refused"), [(1960, True), (2000, False), (2140, False)])
def test_too_fast_convergence_is_refused(
    epochs: int, refused: bool, whole: list[str], tmp_path: Path
) -> None:
    runs = [at(tmp_path, whole, number, epochs) for number in range(RUNS)]
    objections = list(of_set(tmp_path, runs, RUNS, "4.0.0"))
    assert [objection.rule for objection in objections] == ["convergence"] * refused
    found = convergence(runs, "4.0.0")
    assert found is not None
    assert found.mean == 168 * epochs
    if refused:
        assert "converges in 329,280 samples" in objections[0].found
        assert "expected 334,053 at least" in objections[0].found


def test_a_batch_size_beyond_the_points_is_refused(whole: list[str], tmp_path: Path) -> None:
    runs = [at(tmp_path, whole, number, 2140, global_batch_size=168) for number in range(RUNS)]
    (objection,) = of_set(tmp_path, runs, RUNS, "4.0.0")
    assert objection.rule == "convergence"
    assert "global_batch_size is 168, expected 84 at most" in objection.found


def test_results_are_taken_by_number(whole: list[str], tmp_path: Path) -> None:
    for number in (10, 9, 2):
        written(tmp_path / f"result_{number}.txt", whole, value("seed", number))
    files, objections = result_files(tmp_path)
    assert [file.name for file in files] == ["result_2.txt", "result_9.txt", "result_10.txt"]
    assert objections == []
    written(tmp_path / "result_last.txt", whole)
    assert [objection.rule for objection in result_files(tmp_path)[1]] == ["numbering"]


def test_folders_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder, expected one that holds result_<i>.txt"):
        result_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no result_<i>.txt, expected 40 of them"):
        result_files(tmp_path)
    (tmp_path / "result_0.txt").mkdir()
    with pytest.raises(DataError, match=r"result_0.txt cannot be read \(Is a directory\)"):
        inspect_logs(tmp_path, *result_files(tmp_path)[:1], "4.0.0")
