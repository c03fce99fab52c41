"""The kernels compiled for a Hopper GPU, which needs none: the interpreter takes what no compiler would."""

import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
def test_kernels_compile(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = dict(line.split() for line in done.stdout.splitlines())
    assert len(written) == 6
    # The merges aside, which read little.
    expected = {"chunk_sums": "ld", "input_gradient": "ld+st", "normalize": "ld+st", "chunk_statistics": "ld"}
    assert {name: written[name] for name in expected} == expected


def compile_all() -> None:
    """Print, per kernel of a forward and a backward in bfloat16, which accesses take 16 bytes at once."""
    from triton import compile as triton_compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from model.ops.instance_norm_relu import launch

    def build(kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
        # As Triton's own launcher specialises: 1 is a constant, and what 16 divides is told so.
        values = inspect.signature(kernel.fn).bind(*arguments, **constants).arguments
        ones = [name for name, value in values.items() if isinstance(value, int) and value == 1]
        constants = constants | dict.fromkeys(ones, 1)
        signature, attributes = {}, {}
        for place, (name, value) in enumerate(values.items()):
            if name in constants:
                signature[name] = "constexpr"
                continue
            is_tensor = isinstance(value, torch.Tensor)
            signature[name] = (
                TYPES[value.dtype] if is_tensor else "fp32" if isinstance(value, float) else "i32"
            )
            if is_tensor or (isinstance(value, int) and value % 16 == 0):
                attributes[(place,)] = [["tt.divisibility", 16]]
        source = ASTSource(kernel, signature, constants, attributes)
        ptx = triton_compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
        wide = [access for access in ("ld", "st") if f"{access}.global.v4.b32" in ptx]
        print(kernel.__name__, "+".join(wide) or "none")

    class Stand:
        """In the place of a kernel: compiles it for the arguments of a launch."""

        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *arguments, **constants: build(self.kernel, arguments, constants)

    for name, kernel in list(vars(launch.kernels).items()):
        if hasattr(kernel, "fn") and not name.startswith("_"):
            setattr(launch.kernels, name, Stand(kernel))
    shape, wide, channels = (2, 32, 32, 32, 32), (2, 64, 32, 32, 32), 32
    how: dict[str, Any] = {"dtype": torch.bfloat16, "memory_format": torch.channels_last_3d}
    x, copy = torch.empty(shape, **how), torch.empty(wide, **how)[:, channels:]
    weight, bias = torch.empty(channels), torch.empty(channels)
    mean, rstd = launch.forward(x, weight, bias, 1e-5, 0.0, x, copy)
    launch.backward(x, copy, x, mean, rstd, weight, bias, 0.01, x)


if __name__ == "__main__":
    compile_all()
