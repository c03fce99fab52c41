"""What runs without the libraries that live behind one door."""

from pathlib import Path

from tests.integration.conftest import SMALL, python, succeed

WITHOUT = """
import runpy, sys
for name in ({blocked!r}):
    sys.modules[name] = None
sys.argv = {argv!r}
runpy.run_path("main.py", run_name="__main__")
"""


def without(blocked: tuple[str, ...], *flags: object) -> list[str]:
    argv = ["main.py", *map(str, flags)]
    return ["-c", WITHOUT.format(blocked=blocked, argv=argv)]


def test_the_step_runs_without_them(tmp_path: Path) -> None:
    blocked = ("nvidia", "nibabel", "mlperf_logging", "matplotlib", "cc3d", "isal", "apex", "scipy")
    flags = ("--data_dir", "none", *SMALL, "--loader", "synthetic", "--log_dir", tmp_path, "--benchmark")
    steps = ("--warmup_steps", 1, "--benchmark_steps", 3)
    assert "img/s" in succeed(*without(blocked, *flags, *steps))


def test_one_that_is_missing_is_named_when_it_is_needed(cubes: Path, tmp_path: Path) -> None:
    done = python(*without(("mlperf_logging",), "--data_dir", cubes, *SMALL, "--log_dir", tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith("needs mlperf_logging, which is not installed: pip install mlperf-logging")
