"""``main.py --benchmark`` as a user starts it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.integration.conftest import ROOT, SMALL, succeed

LOADERS = {
    "pytorch": ["pytorch", "--data_cache", "host"],
    "synthetic": ["synthetic"],
    "dali": ["dali", "--layout", "NDHWC", "--amp", "--amp_dtype", "bfloat16", "--image_dtype", "bfloat16"],
    "dali host": ["dali", "--data_cache", "host", "--sharding", "static"],
    "dali device": ["dali", "--data_cache", "device", "--cache_dtype", "float16"],
    "dali file": ["dali", "--reader", "file"],
}


@pytest.mark.parametrize("loader", LOADERS)
def test_benchmark_reports_a_rate_that_follows_from_its_window(
    cubes: Path, tmp_path: Path, loader: str
) -> None:
    output = succeed(
        "main.py", "--data_dir", cubes, *SMALL, "--log_dir", tmp_path, "--benchmark", "--warmup_steps", 3,
        "--benchmark_steps", 12, "--ga_steps", 2, "--loader", *LOADERS[loader],
    )  # fmt: skip
    assert f"data: {loader.split()[0]}" in output
    last = output.strip().splitlines()[-1]
    record = json.loads((tmp_path / "benchmark.json").read_text())
    results = record["results"]
    assert results["num_steps"] == 12
    assert results["images_per_second"] == pytest.approx(12 * 2 * 2 / results["window_seconds"])
    assert re.fullmatch(
        r"[\d.]+ img/s( \[[\d.]+, [\d.]+\])? \(n=12, window [\d.]+ s\), \d+ % of compute ceiling, "
        r"data stall \d+ %",
        last,
    )
    assert float(last.split()[0]) == pytest.approx(results["images_per_second"], rel=0.2)
    assert len(results["step_us"]) == len(results["wait_us"]) == 12
    assert sum(results["step_us"]) / 1e6 == pytest.approx(results["window_seconds"], rel=0.05)
    assert all(wait <= step for wait, step in zip(results["wait_us"], results["step_us"], strict=True))
    assert results["data_stall"] == pytest.approx(
        1 - results["images_per_second"] / results["ceiling_images_per_second"]
    )
    assert (
        results["latency_p50"] <= results["latency_p90"] <= results["latency_p95"] <= results["latency_p99"]
    )
    assert results["latency_mean"] * 12 / 1000 == pytest.approx(results["window_seconds"], rel=0.05)
    assert record["environment"]["packages"]["torch"] == torch.__version__
    assert not (tmp_path / "unet3d.log").exists()


def test_ctrl_c_keeps_the_steps_that_were_timed(cubes: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "main.py", "--data_dir", str(cubes), *SMALL, "--log_dir", str(tmp_path),
        "--benchmark", "--warmup_steps", "3", "--benchmark_steps", "1000000", "--verbose",
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stderr
        while not re.search(r" [1-9]\d+/1000003", running.stderr.read(80)):
            pass
        os.killpg(running.pid, signal.SIGINT)
        output, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    assert "Traceback" not in error
    assert "main.py: interrupted" in error
    assert "steps were timed; start again" in output
    results = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    assert len(results["step_us"]) == results["num_steps"] >= 5
    assert f"(n={results['num_steps']}, " in output.strip().splitlines()[-1]


def test_evaluation_benchmark(cubes: Path, tmp_path: Path) -> None:
    output = succeed(
        "main.py", "--data_dir", cubes, *SMALL, "--val_input_shape", 16, 16, 16, "--log_dir", tmp_path,
        "--benchmark", "--exec_mode", "evaluate", "--warmup_steps", 1,
    )  # fmt: skip
    results = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    assert results["volumes_per_second"] == pytest.approx(2 / results["window_seconds"])
    # 32 voxels in windows of 16 at strides of 8: three windows an axis.
    assert results["windows_per_second"] == pytest.approx(2 * 27 / results["window_seconds"])
    assert re.search(r"volumes/s, [\d.]+ windows/s", output)
