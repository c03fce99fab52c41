"""``python -m benchmark peers`` as a user meets it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.__main__ import main
from benchmark.environment import ROOT
from benchmark.peers import contender
from benchmark.record import read_record

QUICK = ["--patch", "32", "--rounds", "1", "--seconds", "0.3", "--warmup_s", "0.1"]


def test_one_table_and_a_record(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contender, "find_spec", lambda module: None)
    record = tmp_path / "record.json"
    flags = ["peers", "--data_dir", str(tiny), *QUICK, "--only", "monai,reference,pytorch"]
    status = main([*flags, "--json", str(record)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["loader", "pytorch", "reference", "monai"]
    assert lines[2].endswith("needs --reference_dir")
    assert lines[3].endswith("not installed: pip install --no-deps -r requirements-peers.txt")
    found = read_record(record)
    pytorch = found.results["contenders"]["pytorch"]
    assert pytorch["images_per_s"][0] > 0
    assert pytorch["peak_pss"] > pytorch["peak_kept"] > 0
    assert found.config["patch"] == 32
    assert found.results["cases"] == 5
    # A file system in memory has no cold reads.
    assert status == (1 if pytorch["notes"] else 0)
    assert bool(pytorch["cold"]) != bool(pytorch["notes"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--only", "pytorch,pytorsh"], "'pytorsh' is none of pytorch, "),
        (["--reference_dir", "/nonexistent"], "expected a checkout of mlcommons/training"),
        (["--seconds", "0"], "0 is no positive number of seconds"),
        (["--workers", "0"], "0 is not at least 1"),
    ],
)
def test_a_wrong_flag_is_one_sentence(
    tiny: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["peers", "--data_dir", str(tiny), *flags])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data_dir", "/nonexistent"], "/nonexistent is not a folder"),
        (["--patch", "41"], "case_00001_x.npy has (40, 72, 72) voxels, and a patch of 41^3 does not fit"),
        (["--patch", "32", "--batch_size", "6"], "has 5 training cases, expected at least one batch of 6"),
        (["--evaluation_cases", "/nonexistent"], "/nonexistent: No such file or directory"),
    ],
)
def test_data_that_will_not_do_is_one_sentence(
    tiny: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["peers", "--data_dir", str(tiny), *flags]) == 1
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_no_training_case(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = tmp_path / "every.txt"
    every.write_text("".join(f"{case:05}\n" for case in range(210)))
    assert main(["peers", "--data_dir", str(tiny), "--evaluation_cases", str(every)]) == 1
    assert "has 0 training cases" in capsys.readouterr().err


def test_ctrl_c_leaves_no_process(tiny: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmark",
        "peers",
        "--data_dir",
        str(tiny),
        *QUICK,
        "--only",
        "pytorch",
    ]
    process = subprocess.Popen(
        [*command, "--seconds", "100"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    children: list[int] = []
    end = time.monotonic() + 60
    # The process that measures, and its two workers.
    while len(children) < 3 and time.monotonic() < end:
        time.sleep(0.1)
        children = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message.splitlines()[-1] == "python -m benchmark peers: interrupted"
    assert "Traceback" not in message
    assert len(children) >= 3
    assert not [pid for pid in children if alive(pid)]


def descendants(root: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{root}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            found += [child, *descendants(child)]
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False
