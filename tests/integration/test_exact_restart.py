"""A run that is killed in mid-epoch and continued reads the samples that were left, and learns the same."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.conftest import SMALL, processes_naming, python, succeed
from tests.integration.test_distributed import TORCHRUN

TRACING = Path(__file__).with_name("tracing.py")
LOADERS = {
    "pytorch": ("--loader", "pytorch", "--optimizer", "adam", "--lr_warmup_epochs", 2),
    "dali": ("--loader", "dali", "--data_cache", "host", "--sharding", "static"),
}


def same(a: Any, b: Any) -> bool:
    """Whether two parts of checkpoints are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def same_checkpoints(*paths: Path) -> bool:
    """Weights, moments, scaler, best state, scores, training loss, place: all."""
    return same(*(torch.load(path, weights_only=True) for path in paths))


def run(data: Path, folder: Path, loader: str, kill_at: int, *flags: object) -> tuple[int, list[str], str]:
    """Exit status, batches taken, and what was printed, of a training run of three epochs of four steps."""
    trace = folder / "trace.txt"
    trace.unlink(missing_ok=True)
    done = python(
        TRACING, trace, kill_at, "--data_dir", data, *SMALL, "--log_dir", folder, *LOADERS[loader],
        "--seed", 3, "--epochs", 3, "--learning_rate", 0.01, "--start_eval_at", 1000,
        "--save_ckpt_path", folder / "c.pth", *flags,
    )  # fmt: skip
    taken = trace.read_text().splitlines() if trace.exists() else []
    return done.returncode, taken, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("loader", LOADERS)
def test_a_run_killed_in_mid_epoch_reads_the_rest(cubes: Path, tmp_path: Path, loader: str) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    shared_memory = os.listdir("/dev/shm")
    status, expected, output = run(cubes, whole, loader, 0)
    assert (status, len(expected)) == (0, 12), output
    assert len({line.split(")")[-1] for line in expected}) == 12, "every batch is another"

    # Saved after steps 2, 4 and 6, of which the last may be under way; killed with batch 7 in hand.
    status, killed, output = run(cubes, parts, loader, 7, "--save_every_steps", 2)
    assert status == -signal.SIGKILL, output
    assert killed == expected[:6]
    assert processes_naming(str(parts)) == []

    status, resumed, output = run(cubes, parts, loader, 0, "--resume", "auto")
    assert status == 0, output
    (after,) = re.findall("with epoch (2 after its step 2|1 after its step 4)", output)
    assert resumed == expected[6 if after.startswith("2") else 4 :]
    assert same_checkpoints(whole / "c.pth", parts / "c.pth")
    assert set(os.listdir("/dev/shm")) <= set(shared_memory)


@pytest.mark.slow
def test_ranks_with_accumulation_and_a_loss_scale_go_on_to_the_bit(cubes: Path, tmp_path: Path) -> None:
    flags = (
        "--data_dir", cubes, *SMALL, "--epochs", 4, "--learning_rate", 0.01, "--batch_size", 1,
        "--ga_steps", 2, "--amp", "--evaluate_every", 2, "--save_every_steps", 1,
    )  # fmt: skip

    def train(folder: Path, kill_at: int = 0, *more: object) -> "subprocess.CompletedProcess[str]":
        saved = ("--log_dir", folder, "--save_ckpt_path", folder / "c.pth")
        return python(*TORCHRUN, TRACING, "/dev/null", kill_at, *flags, *saved, *more, OMP_NUM_THREADS="1")

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole).returncode == 0
    # Two steps of two micro-batches make an epoch: the ranks end in the third epoch's second step.
    assert train(parts, 12).returncode == 1
    done = train(parts, 0, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    assert re.search("with epoch (2 after its step 2|3|3 after its step 1)\n", done.stdout), done.stdout
    assert same_checkpoints(whole / "c.pth", parts / "c.pth")
    assert torch.load(whole / "c.pth", weights_only=True)["last_scaler_state_dict"]["scale"] == 65536


@pytest.mark.slow
def test_a_launcher_that_restarts_ranks_needs_nobody(cubes: Path, tmp_path: Path) -> None:
    """The first time rank 1 kills itself, in the second epoch; the second time it finds a file."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = (
        "--data_dir", cubes, *SMALL, "--epochs", 3, "--learning_rate", 0.01, "--batch_size", 1,
        "--save_every_steps", 1, "--evaluate_every", 3, "--start_eval_at", 3, "--resume", "auto",
    )  # fmt: skip
    succeed(
        *TORCHRUN, "main.py", *flags, "--log_dir", whole, "--save_ckpt_path", whole / "c.pth",
        OMP_NUM_THREADS="1",
    )  # fmt: skip
    done = python(
        *TORCHRUN, "--max-restarts=1", TRACING.with_name("fault_once.py"), "killed", 1, 6, parts, *flags,
        "--log_dir", parts, "--save_ckpt_path", parts / "c.pth", OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "beginning anew" in done.stdout
    assert "continuing" in done.stdout
    assert same_checkpoints(whole / "c.pth", parts / "c.pth")
    log = (parts / "unet3d.log").read_text()
    assert '"key": "resumed"' in log
    assert "rank 1 has ended without a word" in done.stderr


def test_the_rest_of_an_epoch_needs_the_same_settings(cubes: Path, tmp_path: Path) -> None:
    status, _, output = run(cubes, tmp_path, "dali", 3, "--save_every_steps", 1)
    assert status == -signal.SIGKILL, output
    checkpoint = tmp_path / "c.pth"
    status, taken, output = run(
        cubes, tmp_path, "dali", 0, "--load_ckpt_path", checkpoint, "--batch_size", 4, "--oversampling", 0.5
    )
    assert (status, taken) == (1, [])
    (line,) = [line for line in output.splitlines() if "error" in line]
    assert "was written in mid-epoch with oversampling 0.4, now 0.5; samples per step 2, now 4" in line


def test_a_run_with_nothing_left_to_do_leaves_its_checkpoint(cubes: Path, tmp_path: Path) -> None:
    status, _, output = run(cubes, tmp_path, "dali", 3, "--save_every_steps", 1)
    assert status == -signal.SIGKILL, output
    checkpoint = tmp_path / "c.pth"
    content = torch.load(checkpoint, weights_only=True) | {"last_epoch": 3}
    torch.save(content, checkpoint)
    before = checkpoint.read_bytes()
    status, taken, output = run(cubes, tmp_path, "dali", 0, "--load_ckpt_path", checkpoint)
    assert (status, taken) == (0, []), output
    assert checkpoint.read_bytes() == before
