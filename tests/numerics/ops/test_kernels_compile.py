"""The kernels compile for a Hopper GPU, and into the instructions that they were written for."""

import importlib
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import model.ops

ROOT = Path(__file__).resolve().parents[3]
MOST_SHARED = 227 * 1024
"""Bytes of shared memory that a program can have."""
MOST_SPILLED = 16
"""Bytes: ptxas keeps a number or two of a kernel that branches little in memory rather than in registers."""
PASSES = {"chunk_statistics", "normalize", "chunk_sums", "input_gradient"}
"""Kernels of the norm that pass over whole activations."""
PRODUCTS = {
    *("stem_conv_forward", "stem_conv_backward_weight", "head_conv_forward", "head_conv_backward"),
    *("up_join_forward", "up_join_backward_x", "up_join_backward_weight"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a process of its own, because the interpreter is in this one's place of the compiler."""
    path = tmp_path_factory.mktemp("compiled") / "report.json"
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.numerics.ops.compile_kernels", "--out", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert path.exists(), done.stderr
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def described(kernel: dict[str, Any]) -> str:
    return f"{kernel['name']} {kernel['dtype']} {kernel['arguments']}"


def test_every_kernel_compiles(report: dict[str, Any]) -> None:
    assert [f"{described(k)}: {k['error']}" for k in report["kernels"] if k["error"]] == []
    assert len(report["kernels"]) > 100


def test_operators_launch_as_many_kernels_as_they_say(report: dict[str, Any]) -> None:
    """And each of them has been launched, so that its kernels are among those compiled."""
    said: dict[str, int] = {}
    for module in pkgutil.iter_modules(model.ops.__path__):
        if module.ispkg:
            said |= importlib.import_module(f"model.ops.{module.name}").LAUNCHES
    assert report["operators"] == said


def test_kernels_fit(report: dict[str, Any]) -> None:
    for kernel in report["kernels"]:
        assert kernel["shared"] <= MOST_SHARED, described(kernel)
        assert kernel["spilled"] <= MOST_SPILLED, described(kernel)


def test_norm_reads_and_writes_16_bytes_at_once(report: dict[str, Any]) -> None:
    """Of more channels than one."""
    passes = [k for k in report["kernels"] if k["name"] in PASSES and "BLOCK=1 " not in k["arguments"]]
    assert {k["name"] for k in passes} == PASSES
    assert {k["dtype"] for k in passes} == {"bfloat16", "float16", "float32"}
    for kernel in passes:
        accesses = kernel["loads"].split()
        if kernel["name"] in ("normalize", "input_gradient"):
            accesses += kernel["stores"].split()
        assert {access.partition(":")[0] for access in accesses} == {"16"}, described(kernel)


def test_matrix_products_use_tensor_cores(report: dict[str, Any]) -> None:
    """Those of 16 bits; float32 stays float32, which tensor cores would round."""
    products = [kernel for kernel in report["kernels"] if kernel["name"] in PRODUCTS]
    assert {kernel["name"] for kernel in products} == PRODUCTS
    for kernel in products:
        assert bool(kernel["products"]) == (kernel["dtype"] != "float32"), described(kernel)
