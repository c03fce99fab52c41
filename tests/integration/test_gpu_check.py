"""``python -m benchmark gpu-check --dry_run`` as a user starts it: what a GPU would run into."""

import json
import os
import signal
from pathlib import Path

import jsonschema
import pytest

from benchmark.fresh_process import ProcessError
from benchmark.gpu_check.worker import Worker
from benchmark.record import read_record
from tests.integration.conftest import ROOT, python

BLOCKED = ("nvidia", "nibabel", "mlperf_logging", "matplotlib", "cc3d", "isal", "apex", "scipy", "pynvml")
"""What a machine with no more than torch, triton, numpy and tqdm lacks; DALI's package is nvidia."""


@pytest.mark.slow
def test_everything_runs_with_what_a_gpu_machine_has(cubes: Path, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="its interpreter runs the kernels")
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nfor name in {BLOCKED!r}:\n    sys.modules[name] = None\n"
    )
    before = sorted((ROOT / "results").iterdir())
    out = tmp_path / "out"
    flags = ("--dry_run", "--data_dir", cubes, "--out", out)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    done = python("-m", "benchmark", "gpu-check", *flags, PYTHONPATH=path, OMP_NUM_THREADS="1")
    printed = done.stdout.splitlines()
    record = read_record(out)
    schema = json.loads((ROOT / "benchmark" / "record_schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads((out / "record.json").read_text()))
    sections = record.results["sections"]
    found = {(name, one["name"]): one for name, section in sections.items() for one in section["items"]}
    bad = {key: one["reason"] for key, one in found.items() if one["status"] in ("failed", "wrong")}
    assert not bad, (bad, done.stderr[-2000:])
    assert done.returncode == 0
    assert list(sections) == [
        "ceilings", "exactness", "ladder", "end-to-end", "convolutions", "fusions", "curves", "kernels",
        "tests", "preparing",
    ]  # fmt: skip
    assert record.suite == "gpu-check-dry-run"
    assert record.results["complete"]
    assert record.environment["gpus"] == []

    ran = {key for key, one in found.items() if one["status"] == "ok"}
    checked = [one["values"] for one in sections["exactness"]["items"] if one["values"]]
    assert {values["op"] for values in checked} == {
        "norm", "transposed", "loss", "stem", "head", "windows",
    }  # fmt: skip
    assert sum(name == "ladder" for name, _ in ran) == 10
    needs_cuda = {one for (_, one), outcome in found.items() if outcome["status"] == "needs CUDA"}
    assert {"everything batch 3", "compile batch 3", "bfloat16"} <= needs_cuda
    feedings = {one.split(", ")[0] for name, one in ran if name == "end-to-end"}
    assert feedings == {"pytorch (no oversampling: cc3d is not installed)", "synthetic"}
    assert found["curves", "fused beside native"]["values"]["agrees"]
    assert found["tests", "pytest -m gpu"]["values"]["counts"].keys() == {"skipped"}

    assert all(line.startswith("dry run | ") for line in printed)
    assert "none of its numbers is a measurement" in printed[-1]
    assert len("\n".join(printed[printed.index("dry run | == summary") :])) < 12_000
    assert (out / "notes.md").read_text().startswith("# Dry run of the GPU check: ")
    assert sorted((ROOT / "results").iterdir()) == before


@pytest.mark.slow
def test_a_child_that_dies_or_hangs_is_replaced(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "log.txt", dry=True)
    work = {"what": "copy", "dtype": "float32"}
    try:
        assert worker.ask("ceilings", work, 60.0)["gbps"] > 0
        with pytest.raises(ProcessError, match="AttributeError.*float33"):
            worker.ask("ceilings", {"what": "copy", "dtype": "float33"}, 60.0)
        assert worker._process
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(ProcessError, match="killed by SIGKILL"):
            worker.ask("ceilings", work, 60.0)
        with pytest.raises(ProcessError, match="did not end within 0 s"):
            worker.ask("ceilings", work, 0.0)
        assert worker._process is None
    finally:
        worker.stop()
    with pytest.raises(ProcessError, match="interrupted"):
        worker.ask("ceilings", work, 60.0)
