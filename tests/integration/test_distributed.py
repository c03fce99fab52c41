"""Two Gloo ranks against one process with the doubled batch."""

import re
from pathlib import Path

import pytest
import torch

from tests.integration.conftest import SMALL, python, succeed

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.mark.parametrize(("ga_steps", "loader"), [(2, ["pytorch"]), (1, ["dali", "--data_cache", "host"])])
def test_two_ranks_train_like_one_with_the_doubled_batch(
    cubes: Path, tmp_path: Path, ga_steps: int, loader: list[str]
) -> None:
    found = []
    for launcher, batch_size in (((), 2), (TORCHRUN, 1)):
        folder = tmp_path / str(batch_size)
        output = succeed(
            *launcher, "main.py", "--data_dir", cubes, *SMALL, "--log_dir", folder, "--seed", 3,
            "--epochs", 3, "--learning_rate", 0.02, "--batch_size", batch_size, "--ga_steps", ga_steps,
            "--save_ckpt_path", folder / "c.pth", "--loader", *loader, OMP_NUM_THREADS="1",
        )  # fmt: skip
        losses = [float(x) for x in re.findall(r"training loss ([\d.]+)", output)]
        assert len(losses) == 3  # and no second rank prints
        checkpoint = torch.load(folder / "c.pth", weights_only=True)
        found.append((losses, checkpoint["last_model_state_dict"]))
    (one_losses, one), (two_losses, two) = found
    assert two_losses == pytest.approx(one_losses, abs=2e-4)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-3, msg=name)


def test_batch_norms_are_evaluated_with_what_the_checkpoint_holds(cubes: Path, tmp_path: Path) -> None:
    common = ("main.py", "--data_dir", cubes, *SMALL, "--normalization", "batchnorm")
    checkpoint = tmp_path / "c.pth"
    trained = succeed(
        *TORCHRUN, *common, "--log_dir", tmp_path, "--save_ckpt_path", checkpoint, OMP_NUM_THREADS="1"
    )
    evaluated = succeed(*common, "--exec_mode", "evaluate", "--load_ckpt_path", checkpoint)
    loss = float(re.findall(r"evaluation loss ([\d.]+)", trained)[-1])
    assert float(evaluated.split("eval_loss ")[1].split()[0]) == pytest.approx(loss, abs=1e-4)


def test_more_ranks_than_volumes_can_be_benchmarked(cubes: Path, tmp_path: Path) -> None:
    output = succeed(
        "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3", "main.py", "--data_dir", cubes,
        *SMALL, "--log_dir", tmp_path, "--benchmark", "--exec_mode", "evaluate", "--warmup_steps", 1,
        OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert "volumes/s" in output


def test_evaluation_is_identical_on_any_number_of_ranks(cubes: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.pth"
    succeed("main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--save_ckpt_path", checkpoint)
    evaluate = (
        "main.py",
        "--data_dir",
        cubes,
        *SMALL,
        "--exec_mode",
        "evaluate",
        "--load_ckpt_path",
        checkpoint,
    )
    one = succeed(*evaluate, OMP_NUM_THREADS="1")
    two = succeed(*TORCHRUN, *evaluate, OMP_NUM_THREADS="1")
    assert one == two
    assert "cases 2" in one


def test_what_does_not_fit_one_rank_is_said_by_all_in_the_same_words(cubes: Path, tmp_path: Path) -> None:
    done = python(
        *TORCHRUN, "main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--loader", "dali",
        "--batch_size", 1, "--input_shape", 64, 64, 64, OMP_NUM_THREADS="1",
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("main.py: error:")]
    assert done.returncode != 0
    assert said
    assert all("a patch of (64, 64, 64) voxels does not fit" in line for line in said)


def test_many_threads_of_two_ranks_fill_one_cache(cubes: Path, tmp_path: Path) -> None:
    """Threads of both ranks wait for volumes that others are reading."""
    for cache in ("host", "none"):
        output = succeed(
            *TORCHRUN, "main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--loader", "dali",
            "--data_cache", cache, "--oversampling", 1.0, "--num_workers", 4, "--last_batch", "pad",
            "--epochs", 2, "--start_eval_at", 9, "--seed", 1, OMP_NUM_THREADS="1",
        )  # fmt: skip
        assert "unreached after epoch 2" in output
