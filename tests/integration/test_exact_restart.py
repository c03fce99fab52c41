"""A run that is killed in mid-epoch and continued reads the samples that were left, and learns the same."""

import os
import signal
from pathlib import Path

import pytest
import torch

from tests.integration.conftest import SMALL, processes_naming, python

TRACING = Path(__file__).with_name("tracing.py")
LOADERS = {
    "pytorch": ("--loader", "pytorch"),
    "dali": ("--loader", "dali"),
    "dali-host-static": ("--loader", "dali", "--data_cache", "host", "--sharding", "static"),
    "dali-device": ("--loader", "dali", "--data_cache", "device", "--cache_dtype", "float16"),
    "dali-file": ("--loader", "dali", "--reader", "file"),
}


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

    # Saved after steps 2, 5 (a border of epochs is passed over) and 7; killed with batch 7 in hand.
    status, killed, output = run(cubes, parts, loader, 7, "--save_every_steps", 2)
    assert status == -signal.SIGKILL, output
    assert killed == expected[:6]
    assert processes_naming(str(parts)) == []

    status, resumed, output = run(cubes, parts, loader, 0, "--load_ckpt_path", parts / "c.pth")
    assert status == 0, output
    assert "with epoch 2 after its step 1" in output
    assert resumed == expected[5:]
    states = [torch.load(f / "c.pth", weights_only=True)["last_model_state_dict"] for f in (whole, parts)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert set(os.listdir("/dev/shm")) <= set(shared_memory)


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
