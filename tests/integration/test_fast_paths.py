"""The flags of the fast paths, through the command line."""

import json
from pathlib import Path

import pytest

from tests.integration.conftest import SMALL, python, succeed

BENCHMARK = ("--benchmark", "--warmup_steps", 1, "--benchmark_steps", 3, "--ceiling_steps", 0, "--seed", 1)
SYNTHETIC = ("--data_dir", "none", *SMALL, "--loader", "synthetic")


def last_loss(out: Path, *flags: object) -> tuple[float, dict[str, str], str]:
    text = succeed("main.py", *SYNTHETIC, "--log_dir", out, *BENCHMARK, *flags)
    record = json.loads((out / "benchmark.json").read_text(encoding="utf-8"))
    return record["results"]["last_loss"], record["results"]["ops"], text


def test_every_way_trains_the_same(tmp_path: Path) -> None:
    native, _, _ = last_loss(tmp_path, "--layout", "NDHWC", "--fused", "native")
    fused, ops, text = last_loss(tmp_path, "--layout", "NDHWC")
    assert "fused: norm, join, loss by plain formulas" in text
    assert ops == {
        "norm": "reference",
        "join": "reference",
        "loss": "reference",
        "stem": "native",
        "head": "native",
    }
    recomputed, _, _ = last_loss(
        tmp_path, "--layout", "NDHWC", "--fused", "off", "--recompute_norm", "--fused_ops", *ops
    )
    assert fused == pytest.approx(native, abs=1e-3)
    assert recomputed == pytest.approx(native, abs=1e-3)


def test_low_precision_with_shadow_weights_and_a_static_scale(tmp_path: Path) -> None:
    plain, _, _ = last_loss(tmp_path, "--layout", "NDHWC")
    half = ("--layout", "NDHWC", "--amp", "--amp_dtype")
    brain, _, _ = last_loss(tmp_path, *half, "bfloat16", "--shadow_weights")
    scaled, _, _ = last_loss(tmp_path, *half, "float16", "--static_loss_scale", 1024)
    assert brain == pytest.approx(plain, abs=0.03)
    assert scaled == pytest.approx(plain, abs=0.03)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--cuda_graph",), "--cuda_graph needs a CUDA device, and this run's is the cpu: drop it"),
        (("--recompute_norm",), "--recompute_norm needs the fused norm"),
        (
            ("--layout", "NDHWC", "--fused", "triton"),
            "--fused triton cannot run: Triton's kernels need a CUDA device",
        ),
    ],
)
def test_what_cannot_run_says_why_in_one_sentence(
    flags: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = python("main.py", *SYNTHETIC, "--log_dir", tmp_path, *BENCHMARK, *flags, TRITON_INTERPRET="0")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert message in line


def test_training_and_evaluation_with_fused_operations(cubes: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pth"
    ndhwc = ("--layout", "NDHWC")
    common = ("--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--num_workers", 0, "--seed", 3)
    end = ("--epochs", 2, "--start_eval_at", 2, "--evaluate_every", 1, "--save_ckpt_path", checkpoint)
    succeed("main.py", *common, *ndhwc, "--fused", "off", "--recompute_norm", *end)
    scores = [
        succeed("main.py", *common, "--exec_mode", "evaluate", "--load_ckpt_path", checkpoint, *way)
        for way in (ndhwc, (*ndhwc, "--fused", "native"), (*ndhwc, "--val_batch_size", 3))
    ]
    means = [
        float(next(line for line in text.splitlines() if line.startswith("mean_dice")).split()[1])
        for text in scores
    ]
    assert means[1:] == pytest.approx([means[0]] * 2, abs=2e-3)
