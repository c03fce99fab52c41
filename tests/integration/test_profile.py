"""``python -m benchmark profile`` and ``sweep`` as a user starts them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.record import read_record
from tests.integration.conftest import ROOT, processes_naming, python, succeed

FLAGS = (
    "--filters", "4", "8", "--input_shape", "16", "16", "16", "--val_input_shape", "32", "32", "32",
    "--num_workers", "1", "--rounds", "2", "--steps", "20",
)  # fmt: skip
SHORT = ("--rounds", "1", "--steps", "5")
"""Where what is measured does not matter."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""A network this small gains nothing from more, and loses much where others want the CPU."""
FOREIGN = """
import itertools, torch
def batches(config, shard, device):
    shape = (config.batch_size, 1, *config.input_shape)
    return [(torch.randn(shape), torch.randint(3, shape)) for _ in range(3)]
def step(config, device):
    weight = torch.ones(1, requires_grad=True)
    return lambda batch: (batch[0] * weight).sum().backward()
"""


def profile(data: Path, out: Path, *flags: object, **environment: str) -> str:
    command = ("-m", "benchmark", "profile", "--data_dir", data, "--out", out, *FLAGS, *flags)
    return succeed(*command, **(ONE_THREAD | environment))


@pytest.mark.parametrize("loader", ["pytorch", "dali", "synthetic"])
def test_the_shipped_step_and_loader(cubes: Path, tmp_path: Path, loader: str) -> None:
    printed = profile(cubes, tmp_path, "--loader", loader).splitlines()
    record = read_record(tmp_path / "record.json")
    found = record.results["findings"]
    assert {p["arm"] for p in record.results["phases"]} == {"loader", "step", "both"}
    assert all(len(p["step_us"]) == 20 for p in record.results["phases"])
    assert printed[-1] == f"page: {tmp_path / 'report.html'}"
    assert printed[-4].startswith(f"verdict: {found['verdict']['name']}")
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert record.config["loader"]["loader"] == loader
    assert len(record.results["pipeline"]["patches"]) == 64
    if loader == "synthetic":
        assert found["read"] is None
        assert found["queue"] is None
    else:
        assert found["read"]["amplification"] > 1
        assert found["service_ms"]["prep"] > 0
        assert record.results["dataset"]["training_cases"] == 8
        assert found["residency"]["data_bytes"] > 0


def test_the_same_pipeline_has_the_same_fingerprint(cubes: Path, tmp_path: Path) -> None:
    patches = []
    for number, flags in enumerate((["--seed", "5"], ["--seed", "5", "--num_workers", "0"], ["--seed", "6"])):
        profile(cubes, tmp_path / str(number), *flags, *SHORT)
        patches.append(read_record(tmp_path / str(number) / "record.json").results["pipeline"]["patches"])
    assert patches[0] == patches[1] != patches[2]


def test_emulated_accelerators_each_have_a_rank(cubes: Path, tmp_path: Path) -> None:
    printed = profile(cubes, tmp_path, "--emulate", "0.03", "--accelerators", "2")
    results = read_record(tmp_path / "record.json").results
    assert results["world_size"] == 2
    assert results["emulated"]["accelerators"] == 2
    step = results["findings"]["rates"]["step"]
    assert step["images_per_s"] == pytest.approx(2 * 2 / 0.03, rel=0.3)
    assert [rank["rank"] for rank in results["findings"]["ranks"]] == [0, 1]
    assert "with 2 x 0.03 s emulated" in printed


def test_a_published_step_is_of_a_published_patch(cubes: Path, tmp_path: Path) -> None:
    done = python(
        "-m",
        "benchmark",
        "profile",
        "--data_dir",
        cubes,
        "--emulate",
        "nvidia-h200",
        "--out",
        tmp_path,
        *FLAGS,
    )
    assert done.returncode == 1
    assert "128x128x128 patches, not of 16x16x16" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_somebody_elses_pipeline(cubes: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(FOREIGN, encoding="utf-8")
    flags = ["--loader", "theirs:batches", *SHORT]
    path = {"PYTHONPATH": str(tmp_path)}
    profile(cubes, tmp_path / "a", *flags, **path)
    profile(cubes, tmp_path / "b", *flags, "--step", "theirs:step", **path)
    ours, theirs = (read_record(tmp_path / name / "record.json").results for name in "ab")
    assert (ours["loader"], ours["step"]) == ("theirs:batches", "voxelrate")
    assert theirs["step"] == "theirs:step"
    assert ours["findings"]["service_ms"] is None


@pytest.mark.parametrize("flags", [["--loader", "pytorch"], ["--loader", "dali"]], ids=" ".join)
def test_cold_rounds_say_how_much_was_cached(cubes: Path, tmp_path: Path, flags: list[str]) -> None:
    command = ("-m", "benchmark", "profile", "--data_dir", cubes, "--out", tmp_path, *FLAGS, "--cold", *flags)
    done = python(*command, **ONE_THREAD)
    if "stays in the page cache" in done.stderr:
        pytest.skip("the temporary folder keeps its files in memory: set TMPDIR to a folder on a disk")
    assert done.returncode == 0, done.stderr
    results = read_record(tmp_path / "record.json").results
    cold = [phase for phase in results["phases"] if phase["cache"] == "cold"]
    assert {phase["arm"] for phase in cold} == {"loader-cold", "both-cold"}
    assert all(phase["resident_before"] < results["data_bytes"] / 10 for phase in cold)
    assert all(phase["resident_after"] > phase["resident_before"] for phase in cold)
    assert results["findings"]["cold"]["verdict"]["name"]


def test_ranks_of_torchrun_average_gradients(cubes: Path, tmp_path: Path) -> None:
    succeed(
        "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "benchmark", "profile",
        "--data_dir", cubes, "--out", tmp_path, *FLAGS, **ONE_THREAD,
    )  # fmt: skip
    found = read_record(tmp_path / "record.json").results["findings"]
    assert found["rates"]["step-local"]["images_per_s"] > 0
    assert found["allreduce_share"]["value"] < 1
    assert len(found["ranks"]) == 2


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--loader", "mxnet"], 2, "none of pytorch, dali, synthetic, and no package.module:factory"),
        (["--accelerators", "2"], 2, "--accelerators goes with --emulate"),
        (["--emulate", "fast"], 2, "neither a positive number of seconds"),
        (["--steps", "1"], 1, "too few"),
        (["--loader", "synthetic", "--cold"], 1, "--cold works on case_*.npy in --data_dir"),
        (["--data_dir", "/nonexistent"], 1, "/nonexistent is not a folder"),
        (["--data_dir", "/nonexistent", "--emulate", "1", "--accelerators", "2"], 1, "is not a folder"),
        (["--out", "/proc/here"], 1, "/proc/here cannot be written to"),
    ],
)
def test_wrong_input_is_one_sentence(
    cubes: Path, tmp_path: Path, flags: list[str], status: int, message: str
) -> None:
    done = python("-m", "benchmark", "profile", "--data_dir", cubes, "--out", tmp_path, *FLAGS, *flags)
    assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), done.stderr
    assert message in done.stderr


def test_ctrl_c_keeps_what_was_measured(cubes: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmark", "profile", "--data_dir", str(cubes), "--out", str(tmp_path),
        *FLAGS, "--rounds", "1000",
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdout
        for line in running.stdout:
            if line.startswith("round 3 "):
                break
        os.killpg(running.pid, signal.SIGINT)
        output, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    assert "what was measured so far is written" in error
    assert "Traceback" not in error
    record = read_record(tmp_path / "record.json")
    assert len(record.results["phases"]) >= 6
    assert record.results["findings"]["verdict"]["name"]
    assert "verdict" in output


def sweep(data: Path, out: Path, *flags: object, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    return python(
        "-m", "benchmark", "sweep", "--data_dir", data, "--out", out, *FLAGS, "--rounds", "1", *flags,
        timeout=timeout, **ONE_THREAD,
    )  # fmt: skip


def test_a_sweep_goes_on_after_a_point_that_fails_and_where_it_stopped(cubes: Path, tmp_path: Path) -> None:
    axes = ["--axis", "batch_size=2,64", "--repetitions", "2"]
    first = sweep(cubes, tmp_path, *axes, "--budget", "1s")
    assert first.returncode == 0, first.stderr
    assert "--budget: stopped after 1 of 4 runs" in first.stderr
    results = read_record(tmp_path / "record.json").results
    assert [point["status"] for point in results["points"]] == ["ok", "missing"]
    assert not results["complete"]
    begun = (tmp_path / "parts" / "point-001-1" / "record.json").stat().st_mtime_ns

    done = sweep(cubes, tmp_path, *axes)
    assert done.returncode == 0, done.stderr
    results = read_record(tmp_path / "record.json").results
    assert [point["status"] for point in results["points"]] == ["ok", "failed"]
    assert "do not fill one step of 64 samples" in results["points"][1]["reason"]
    assert results["complete"]
    assert (tmp_path / "parts" / "point-001-1" / "record.json").stat().st_mtime_ns == begun, "measured again"
    point = read_record(tmp_path / results["points"][0]["record"]).results
    assert {phase["process"] for phase in point["phases"]} == {0, 1}
    assert "failed" in done.stdout
    assert (tmp_path / "report.html").exists()

    other = sweep(cubes, tmp_path, "--axis", "loader=dali")
    assert (other.returncode, len(other.stderr.splitlines())) == (1, 1)
    assert "holds another sweep" in other.stderr


def test_an_axis_that_is_no_flag(cubes: Path, tmp_path: Path) -> None:
    done = sweep(cubes, tmp_path, "--axis", "colour=red")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "--axis colour: there is no such flag" in done.stderr


def test_ctrl_c_in_a_sweep_leaves_no_process_and_says_how_to_go_on(cubes: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmark", "sweep", "--data_dir", str(cubes), "--out", str(tmp_path), *FLAGS,
        "--axis", "batch_size=1,2",
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as running:  # fmt: skip
        deadline = time.monotonic() + 120
        while not (tmp_path / "parts" / "point-002-1").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2)
        os.killpg(running.pid, signal.SIGINT)
        output, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    assert "Traceback" not in error
    assert "the same command goes on where it stopped" in output
    assert json.loads((tmp_path / "record.json").read_text())["results"]["points"][0]["status"] == "ok"
    assert processes_naming(str(tmp_path)) == []


def test_a_live_comparison(cubes: Path, tmp_path: Path) -> None:
    def compared(a: str, b: str) -> "subprocess.CompletedProcess[str]":
        shared = f"--data_dir {cubes} {' '.join(FLAGS[:-4])}"
        return python(
            "-m", "benchmark", "compare", "--quick", shared, a, b, "--window", "3", "--slice", "0.25",
            "--pairs", "6", "--json", tmp_path / "record.json", **ONE_THREAD,
        )  # fmt: skip

    done = compared("", "--filters 16 32")
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.search(r"B / A 0\.\d+ \[.*\] in 6 pairs of processes, 3 s a side: SLOWER", done.stdout)
    results = read_record(tmp_path / "record.json").results
    assert len(results["first"]) == len(results["second"]) == 6
    assert 0.1 < results["ratio"]["value"] < 0.9, "four times the work"
    broken = compared("", "--loader no.such:thing")
    assert (broken.returncode, len(broken.stderr.splitlines())) == (1, 1)
    assert "no module named" in broken.stderr
    assert processes_naming(str(cubes)) == []


def test_a_trace_names_what_the_loader_and_the_step_do(cubes: Path, tmp_path: Path) -> None:
    import gzip

    flags = [*FLAGS[:-4], "--trace_steps", "3"]
    succeed("-m", "benchmark", "trace", "--data_dir", cubes, "--out", tmp_path, *flags, **ONE_THREAD)
    events = json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))["traceEvents"]
    spans = [event for event in events if event.get("ph") == "X"]
    names = [event["name"] for event in spans]
    for name in ("transfer", "forward", "loss", "backward", "optimizer"):
        assert names.count(name) == 3, name
    assert names.count("read") == names.count("augment") == 6, "two samples a batch"
    steps = [event for event in spans if event["name"] == "step 2"]
    read = max(event["ts"] for event in spans if event["name"] == "read")
    assert read < steps[0]["ts"] + steps[0]["dur"], "the clocks of workers and profiler agree"
    assert steps[0]["ts"] - read < 60e6
