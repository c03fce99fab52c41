"""The command, and what a run insists on."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.arguments import parse_arguments
from runtime.errors import RunError
from runtime.preflight import insist, insist_closed, insist_unchanged
from runtime.preflight.__main__ import main
from runtime.preflight.stamp import stamp_path
from runtime.preflight.survey import storage_of, survey
from tests.conftest import ROOT
from tests.unit.runtime.preflight_cases import RANKS, DataSet, make

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    found = make(tmp_path_factory.mktemp("pristine"))
    if any(mount.in_memory for mount in storage_of([found.folder])):
        pytest.skip("the tests' temporary folder is in memory, where no data set is legal")
    return found


@pytest.fixture
def data(pristine: DataSet, tmp_path: Path) -> DataSet:
    """With results of its own, and not to be spoiled."""
    return replace(pristine, results=tmp_path / "results")


@pytest.fixture
def ask(data: DataSet, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run the command with further flags; exit status, output and errors."""

    def run(*flags: object) -> tuple[int, str, str]:
        status = main([*data.flags, "--ranks", str(RANKS), *map(str, flags)], data.table)
        return status, *capsys.readouterr()

    return run


def test_a_legal_run_is_said_to_be_and_may_start(data: DataSet, ask: Ask) -> None:
    status, out, err = ask("--seeds", 1, 2, 3)
    assert (status, err) == (0, "")
    assert "legal for the closed division" in out
    insist_closed(data.config, RANKS, data.table)
    insist_unchanged(data.config)


def test_what_is_off_is_counted_and_the_first_is_named_with_what_to_do(ask: Ask) -> None:
    status, out, err = ask("--oversampling", "0.5", "--seeds", 4, 4)
    assert status == 1
    assert err.count("\n") == 1
    start = "error: 2 rules are off for the closed division, first oversampling (required 0.4; found 0.5)"
    assert err.startswith(start)
    assert "pass --oversampling 0.4" in err
    assert "--mlperf_division open logs the run as open" in err
    words = [line.split() for line in out.splitlines() if line.startswith(" ") and line.strip()]
    rows = {row[0]: row[-1] for row in reversed(words)}
    assert (rows["oversampling"], rows["seeds"], rows["target"]) == ("off", "off", "ok")


@pytest.mark.parametrize("flags", [("--ranks", "0"), ("--seeds",), ("--seeds", "-2"), ("--seed", "x")])
def test_a_wrong_flag_is_one_sentence(ask: Ask, flags: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        ask(*flags)
    assert ended.value.code == 2


def test_an_unwritable_results_folder_is_off(data: DataSet, ask: Ask) -> None:
    data.results.write_text("a file where the folder should be")
    status, out, err = ask()
    assert status == 1
    assert "results folder" in err
    assert "cannot be written to" in err


def test_a_missing_data_folder_is_off(ask: Ask, tmp_path: Path) -> None:
    status, _, err = ask("--data_dir", tmp_path / "nowhere")
    assert status == 1
    assert "nowhere cannot be listed (No such file or directory)" in err


def test_a_damaged_stamp_is_said_and_made_anew(data: DataSet, ask: Ask) -> None:
    ask()
    stamp = data.results / "preflight.json"
    whole = stamp.read_bytes()
    stamp.write_bytes(whole[:1000])
    with pytest.raises(RunError, match="damaged or of another version"):
        insist_closed(data.config, RANKS, data.table)
    status, out, _ = ask()
    assert status == 0
    assert "every file is read again" in out
    assert stamp.read_bytes() == whole


def test_interrupted_it_leaves_no_stamp(data: DataSet, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("runtime.preflight.survey.file_md5", interrupt)
    status, _, err = ask()
    assert (status, err) == (130, "interrupted: no stamp was written\n")
    assert not (data.results / "preflight.json").exists()


def test_a_run_is_refused_without_a_stamp(data: DataSet) -> None:
    with pytest.raises(RunError, match="preflight.json does not exist") as refused:
        insist_closed(data.config, RANKS, data.table)
    message = str(refused.value)
    assert "7 more off" in message
    assert "run python -m runtime.preflight with the same flags" in message
    assert "\n" not in message


def test_a_run_is_refused_by_the_published_table(data: DataSet, ask: Ask) -> None:
    ask()
    with pytest.raises(RunError, match="labels"):
        insist_closed(data.config, RANKS)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (("--caches_cleared", "refused"), "caches"),
        (("--load_ckpt_path", "c.pth"), "start"),
        (("--mlperf_container", ""), "container"),
        (("--epochs", "999"), "last epoch"),
        (("--batch_size", "5"), "samples per epoch"),
    ],
)
def test_a_run_is_refused_by_each_kind_of_rule(
    data: DataSet, ask: Ask, flags: tuple[str, ...], rule: str
) -> None:
    ask()
    with pytest.raises(RunError, match=f"closed division: {rule} "):
        insist_closed(parse_arguments([*data.flags, *flags]), RANKS, data.table)


def test_a_run_that_may_start_has_touched_no_file_of_the_data(data: DataSet, ask: Ask) -> None:
    ask()
    away = data.folder.rename(data.folder.with_name("away"))
    try:
        insist_closed(data.config, RANKS, data.table)
    finally:
        away.rename(data.folder)


SPOILINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "touched": (lambda file: os.utime(file, ns=(1, 1)), "case_00007_x.npy has changed since"),
    "longer": (lambda file: os.truncate(file, 9999), "case_00007_x.npy has changed since"),
    "gone": (lambda file: file.unlink(), "case_00007_x.npy cannot be looked at (No such file"),
    "come": (lambda file: file.with_name("boxes.npz").touch(), "boxes.npz was not there when"),
}


@pytest.mark.parametrize("spoiling", SPOILINGS)
def test_a_file_that_changed_since_is_named(pristine: DataSet, tmp_path: Path, spoiling: str) -> None:
    data = pristine.copy(tmp_path)
    data.results.mkdir()
    survey(data.folder, data.table, {}).save(stamp_path(data.config))
    insist_unchanged(data.config)
    spoil, said = SPOILINGS[spoiling]
    spoil(data.folder / "case_00007_x.npy")
    with pytest.raises(RunError) as refused:
        insist_unchanged(data.config)
    assert said in str(refused.value)


def test_data_that_moved_into_memory_is_refused(
    data: DataSet, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()
    shared = storage_of([Path("/dev/shm")])
    monkeypatch.setattr(insist, "storage_of", lambda paths: shared)
    with pytest.raises(RunError, match="is on tmpfs, expected durable storage"):
        insist_unchanged(data.config)


def test_as_a_program_it_refuses_a_phantom(tmp_path: Path) -> None:
    data, module = str(tmp_path / "data"), [sys.executable, "-m"]
    made = ["preprocess.phantom", "--preprocessed", "--shape", "8", "8", "8", "--cases", "10", "--out", data]
    subprocess.run([*module, *made], cwd=ROOT, check=True, capture_output=True)
    asked = ["runtime.preflight", "--data_dir", data, "--log_dir", str(tmp_path / "results")]
    done = subprocess.run([*module, *asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "phantom" in done.stdout
    assert "8 and 2, without" in done.stdout
