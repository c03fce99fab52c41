"""Train, evaluate, resume and benchmark as a user does, and fail as a user must see it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.integration.conftest import ROOT, SMALL, dice_scores, processes_naming, python, succeed


def test_train_and_evaluate_the_best_again(cubes: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "ckpt.pth"
    output = succeed(
        "main.py", "--data_dir", cubes, *SMALL, "--epochs", 2, "--learning_rate", 0.01, "--num_workers", 2,
        "--save_ckpt_path", checkpoint, "--log_dir", tmp_path,
    )  # fmt: skip
    scores = dice_scores(output)
    assert len(scores) == 2
    assert "unreached after epoch 2" in output
    assert (tmp_path / "unet3d.log").read_text().count("eval_accuracy") == 2
    evaluated = succeed(
        "main.py", "--data_dir", cubes, *SMALL, "--exec_mode", "evaluate", "--load_ckpt_path", checkpoint
    )
    assert float(evaluated.split("mean_dice ")[1].split()[0]) == pytest.approx(max(scores), abs=5e-5)


def test_a_checkpoint_of_the_reference_is_evaluated_and_continued(cubes: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.pth", tmp_path / "theirs.pth"
    common = ["main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--learning_rate", 0.01]
    succeed(*common, "--epochs", 2, "--save_ckpt_path", ours)
    content = torch.load(ours, weights_only=True)
    # What the reference's CheckpointCallback saves: its scores are floats, the epoch too.
    own = ("format_version", "last_epoch", "last_scaler_state_dict", "best_scaler_state_dict", "epoch")
    names = set(content) - set(own)
    assert {"last_optimizer_state_dict", "best_optimizer_state_dict", "L1 dice", "mean_dice"} <= names
    torch.save({name: content[name] for name in names} | {"epoch": 2.0}, theirs)
    evaluate = ["main.py", "--data_dir", cubes, *SMALL, "--exec_mode", "evaluate", "--load_ckpt_path"]
    assert succeed(*evaluate, theirs) == succeed(*evaluate, ours)
    output = succeed(*common, "--epochs", 3, "--load_ckpt_path", theirs, "--save_ckpt_path", theirs)
    assert "with epoch 3" in output
    assert torch.load(theirs, weights_only=True)["last_epoch"] == 3


def test_a_continued_run_has_the_seed_of_the_run_it_continues(cubes: Path, tmp_path: Path) -> None:
    # Nothing but a fixed seed promises that no evaluation finds a network that diverged.
    drawn = ("--seed", -1, "--start_eval_at", 1000)
    common = ["main.py", "--data_dir", cubes, *SMALL, *drawn, "--log_dir", tmp_path, "--learning_rate", 0.01]
    succeed(*common, "--save_ckpt_path", tmp_path / "c.pth")
    first = (tmp_path / "unet3d.log").read_text()
    succeed(*common, "--epochs", 2, "--load_ckpt_path", tmp_path / "c.pth")
    seed = re.compile(r'"key": "seed", "value": (\d+)')
    assert seed.findall(first) == seed.findall((tmp_path / "unet3d.log").read_text())


def test_options_work_together(cubes: Path, tmp_path: Path) -> None:
    output = succeed(
        "main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--layout", "NDHWC", "--amp",
        "--amp_dtype", "bfloat16", "--ga_steps", 2, "--batch_size", 3, "--last_batch", "pad", "--optimizer",
        "lamb", "--learning_rate", 0.01, "--activation", "leaky_relu", "--normalization", "batchnorm",
        "--include_background", "--brightness", "nvidia", "--epochs", 2, "--verbose",
    )  # fmt: skip
    log = (tmp_path / "unet3d.log").read_text()
    assert '"key": "samples_per_epoch", "value": 12' in log  # 8 cases padded to two steps of 2 x 3
    assert '"key": "global_batch_size", "value": 6' in log
    assert len(dice_scores(output)) == 2


def test_evaluation_without_a_checkpoint_says_so(cubes: Path, tmp_path: Path) -> None:
    output = succeed("main.py", "--data_dir", cubes, *SMALL, "--exec_mode", "evaluate")
    assert "random weights" in output
    assert "cases 2" in output


def test_a_checkpoint_from_before_any_evaluation_is_evaluated_at_its_last_state(
    cubes: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "c.pth"
    late = ["--start_eval_at", 1000]
    succeed(
        "main.py", "--data_dir", cubes, *SMALL, *late, "--log_dir", tmp_path, "--save_ckpt_path", checkpoint
    )
    output = succeed(
        "main.py", "--data_dir", cubes, *SMALL, "--exec_mode", "evaluate", "--load_ckpt_path", checkpoint
    )
    assert "before any evaluation" in output


def broken(data: Path, fault: str, folder: Path) -> Path:
    """A copy of ``data`` by links with one fault in it."""
    if fault == "missing folder":
        return folder / "nowhere"
    copy = folder / "data"
    copy.mkdir()
    for file in data.glob("*.npy"):
        (copy / file.name).symlink_to(file)
    victim = min(copy.glob("*_x.npy"))
    if fault == "missing image":
        victim.unlink()
    elif fault == "truncated image":
        content = victim.read_bytes()
        victim.unlink()
        victim.write_bytes(content[:-1000])
    elif fault == "no evaluation case":
        for file in copy.glob("case_0000[03]_*"):
            file.unlink()
    elif fault == "empty folder":
        for file in copy.iterdir():
            file.unlink()
    return copy


@pytest.mark.parametrize("loader", ["pytorch", "dali"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing folder", r"nowhere"),
        ("empty folder", r"case_\*_x\.npy"),
        ("missing image", r"case_00000_y\.npy has no case_00000_x\.npy"),
        ("truncated image", r"case_00000_x\.npy"),
        ("no evaluation case", r"nothing to evaluate"),
    ],
)
def test_bad_data_is_named_in_one_sentence(
    cubes: Path, tmp_path: Path, fault: str, message: str, loader: str
) -> None:
    data = broken(cubes, fault, tmp_path)
    done = python("main.py", "--data_dir", data, *SMALL, "--log_dir", tmp_path, "--loader", loader)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert '"status": "aborted"' in (tmp_path / "unet3d.log").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch_size", 100], "--last_batch pad"),
        (["--input_shape", 64, 64, 64], "64"),
        (["--load_ckpt_path", "/nonexistent.pth"], "/nonexistent.pth: no such checkpoint"),
        (["--optimizer_backend", "apex"], "CUDA device"),
        (["--save_ckpt_path", "/proc/nothing/c.pth"], "checkpoint cannot be written"),
        (["--log_dir", "/proc/nothing"], "--log_dir"),
        (["--loader", "dali", "--dali_device", "gpu"], "--dali_device gpu needs a CUDA device"),
        (["--loader", "dali", "--reader", "gds"], "--reader gds needs --dali_device gpu"),
        (["--loader", "dali", "--input_shape", 64, 64, 64], "64"),
        (["--loader", "dali", "--batch_size", 100], "--last_batch pad"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(
    cubes: Path, tmp_path: Path, flags: list[object], message: str
) -> None:
    done = python("main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, *flags)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_diverged_run_fails_and_keeps_the_last_good_checkpoint(cubes: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.pth"
    common = ["main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--save_ckpt_path", checkpoint]
    succeed(*common, "--learning_rate", 0.01)
    before = checkpoint.read_bytes()
    done = python(*common, "--load_ckpt_path", checkpoint, "--learning_rate", 1e38, "--epochs", 3)
    assert done.returncode == 3
    assert "diverged after epoch" in done.stdout
    assert '"status": "aborted"' in (tmp_path / "unet3d.log").read_text()
    assert checkpoint.read_bytes() == before


def under_way(data: Path, folder: Path, *flags: str) -> "subprocess.Popen[str]":
    """A training run without end, in a process group of its own, after its first evaluation."""
    process = subprocess.Popen(
        [
            sys.executable, "main.py", "--data_dir", data, *SMALL, "--log_dir", folder, "--epochs", "9999",
            *flags,
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    log = folder / "unet3d.log"
    deadline = time.monotonic() + 120
    while not (log.exists() and "eval_accuracy" in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


@pytest.mark.parametrize(
    ("signum", "status", "group", "loader", "saves"),
    [
        (signal.SIGINT, 130, True, "pytorch", True),
        (signal.SIGTERM, 143, True, "dali", True),
        (signal.SIGTERM, 143, True, "pytorch", False),
        (signal.SIGUSR1, 138, False, "pytorch", True),
    ],
)
def test_a_signal_ends_the_run_and_its_workers(
    cubes: Path, tmp_path: Path, signum: signal.Signals, status: int, group: bool, loader: str, saves: bool
) -> None:
    checkpoint = tmp_path / "c.pth"
    saving = ("--save_ckpt_path", str(checkpoint), "--start_eval_at", "1", "--evaluate_every", "3")
    process = under_way(cubes, tmp_path, "--loader", loader, *(saving if saves else ()))
    # Ctrl-C and some batch systems reach the whole process group, workers too; others the program alone.
    (os.killpg if group else os.kill)(process.pid, signum)
    output, error = process.communicate(timeout=30)
    nothing = "" if saves else "; nothing was saved, for want of --save_ckpt_path"
    assert (process.returncode, error.strip()) == (status, f"main.py: stopped by {signum.name}{nothing}")
    assert '"status": "aborted"' in (tmp_path / "unet3d.log").read_text().splitlines()[-1]
    assert processes_naming(str(tmp_path)) == []
    if saves:
        (place,) = re.findall(r"^saved epoch (\d+ after its step \d) to .*c\.pth$", output, re.MULTILINE)
        content = torch.load(checkpoint, weights_only=True)
        assert place == f"{content['last_epoch'] + 1} after its step {content['last_step']}"


def test_a_second_signal_ends_a_run_that_cannot_end_by_itself(cubes: Path, tmp_path: Path) -> None:
    process = under_way(cubes, tmp_path)
    (worker,) = [pid for pid in processes_naming(str(tmp_path)) if pid != process.pid]
    os.kill(worker, signal.SIGSTOP)  # the step that is to be finished waits for its batch
    time.sleep(1)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=10)
    # Python itself gives the signal back its default when it ends.
    assert process.returncode in (143, -signal.SIGTERM)
    assert processes_naming(str(tmp_path)) == []


def test_a_worker_that_dies_ends_the_run_with_one_sentence(cubes: Path, tmp_path: Path) -> None:
    process = under_way(cubes, tmp_path)
    (worker,) = [pid for pid in processes_naming(str(tmp_path)) if pid != process.pid]
    os.kill(worker, signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = error.strip().splitlines()
    assert re.search(
        r"main.py: error: a worker was ended from outside \(SIGKILL\) at case_\d+, case_\d+", line
    )
    assert '"status": "aborted"' in (tmp_path / "unet3d.log").read_text()
