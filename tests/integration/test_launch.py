"""The launchers, with stand-ins for docker and SLURM, and the configurations they read."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.arguments import RunConfig, parse_arguments
from runtime.preflight.batches import batch_findings
from runtime.preflight.settings import setting_findings
from tests.integration import stub_commands
from tests.integration.conftest import ROOT

LAUNCH = ROOT / "launch"
CONFIGS = sorted(path.stem.removeprefix("config_") for path in LAUNCH.glob("config_*.sh"))


@dataclass
class Stubs:
    """A folder of stand-ins, and one for results."""

    folder: Path
    logdir: Path
    environment: dict[str, str]

    def start(self, *command: object, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(word) for word in command], env=self.environment | variables, cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *command: object, **variables: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, **variables)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def calls(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / "calls.jsonl"
        calls = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [call for call in calls if call["name"] == name]


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    binaries, data, logdir = tmp_path / "bin", tmp_path / "data", tmp_path / "results"
    for folder in (binaries, data):
        folder.mkdir()
    source = Path(stub_commands.__file__).read_text()
    for name in stub_commands.COMMANDS:
        (binaries / name).write_text(f"#!{sys.executable} -IS\n{source}")
        (binaries / name).chmod(0o755)
    (tmp_path / "cores").write_text("0-63")
    (tmp_path / "gpus").write_text("")
    environment = {
        "PATH": f"{binaries}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(tmp_path),
        "STUB_FOLDER": str(tmp_path),
        "DATADIR": str(data), "LOGDIR": str(logdir), "HOST_LOGDIR": str(logdir), "CONT": "unet3d",
        "STOP_SECONDS": "0", "CLEAR_CACHES": "0",
    }  # fmt: skip
    return Stubs(tmp_path, logdir, environment)


DROPPING = os.access("/proc/sys/vm/drop_caches", os.W_OK)


def docker_series(stubs: Stubs, **variables: str) -> subprocess.CompletedProcess[str]:
    """A closed series where caches can be dropped, elsewhere an open one."""
    division = {"MLPERF_DIVISION": "closed", "CLEAR_CACHES": "1"} if DROPPING else {"MLPERF_DIVISION": "open"}
    return stubs.run(LAUNCH / "run_with_docker.sh", "H200_1x8", **(division | variables))


def exec_words(stubs: Stubs, part: str) -> list[list[str]]:
    """The words of ``docker exec`` calls that have ``part`` among them."""
    return [call["words"] for call in stubs.calls("docker") if part in call["words"]]


def configured(stubs: Stubs, config: str) -> tuple[RunConfig, int]:
    """What main.py is asked for under a configuration, and by how many ranks."""
    script = 'source launch/read_config.sh; read_config "$1"; exec ./run_and_time.sh check 1'
    done = stubs.run(
        "bash", "-euc", script, "bash", config, PYTHON="stub-python",
        DATASET_DIR=stubs.environment["DATADIR"], LOG_DIR=str(stubs.folder / "log"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (call,) = stubs.calls("stub-python")
    words = call["words"]
    at = words.index("--ranks")
    return parse_arguments(words[2:at]), int(words[at + 1])


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_is_what_it_says(stubs: Stubs, config: str) -> None:
    run, ranks = configured(stubs, config)
    if config == "cpu_phantom":
        assert run.mlperf.division == "closed-test"
        return
    gpu, size = config.split("_")
    nodes, each = map(int, size.split("x"))
    assert ranks == nodes * each
    batch = run.loader.batch_size * run.loader.ga_steps * (ranks - run.eval_ranks)
    assert batch == (28 if ranks == 1 else 56)
    assert run.eval_ranks == (16 if nodes == 9 else 0)
    assert (run.learning_rate.base, run.learning_rate.warmup_epochs) == (2.0, 1000)
    assert gpu in run.mlperf.platform
    findings = [*setting_findings(run), *batch_findings(run, ranks)]
    off = [finding for finding in findings if finding.state != "ok"]
    # What image it runs in is for the launcher to say.
    assert [finding.rule for finding in off] == ["container"]


def test_a_variable_that_nobody_knows_is_refused_before_anything_starts(stubs: Stubs) -> None:
    config = stubs.folder / "mine.sh"
    config.write_text("LEARNING_RATE=2.0\nLERNING_RATE=1.0\n")
    done = stubs.run(LAUNCH / "run_with_docker.sh", config)
    assert done.returncode == 1
    assert "mine.sh: sets LERNING_RATE, which launch/variables.sh does not know" in done.stderr
    assert stubs.calls("docker") == []
    done = stubs.run(LAUNCH / "run_with_docker.sh", "nothing")
    assert done.returncode == 1
    assert "nothing is no file and no configuration" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "touch ran", "LOG_DIR=$(touch ran)", "LOG_DIR=`touch ran`", "LOG_DIR=x; touch ran", "PATH=evil",
        "LOG_DIR=${LOG_DIR:-$(touch ran)}", 'LOG_DIR="$(touch ran)"', "LOG_DIR=${LOG_DIR@P}", "IFS=x",
        "LOG_DIR=$[a[$(touch ran)]]", "LOG_DIR=x\\", ". evil.sh", "LOG_DIR=<(touch ran)", "LOG_DIR=x\r",
        'source "$(dirname "${BASH_SOURCE[0]}")/mine.sh"', "source ./evil.sh", "BASH_ENV=evil.sh",
        "LOG_DIR=x touch ran",
    ],
)  # fmt: skip
def test_a_configuration_runs_nothing(stubs: Stubs, line: str) -> None:
    config = stubs.folder / "mine.sh"
    (stubs.folder / "evil.sh").write_text("touch ran\n")
    config.write_text(f"# mine\nLEARNING_RATE=${{LEARNING_RATE:-2.0}} # high\n{line}\n")
    script = 'source launch/read_config.sh; cd "$2"; read_config "$1" && echo "read: $LOG_DIR"'
    done = stubs.run("bash", "-uc", script, "bash", config, stubs.folder)
    assert "read: " not in done.stdout
    assert re.search(r"mine\.sh(, line [23]: expected NAME=value|: sets \w+, which)", done.stderr), (
        done.stderr
    )
    assert not (stubs.folder / "ran").exists()
    config.write_text('LEARNING_RATE=${LEARNING_RATE:-2.0} # high\nLOG_DIR="$HOME/my logs"')
    done = stubs.run("bash", "-uc", script, "bash", config, stubs.folder)
    assert done.stdout == f"read: {stubs.folder}/my logs\n"


def test_the_environment_wins_over_a_configuration(stubs: Stubs) -> None:
    stubs.environment["LEARNING_RATE"] = "1.5"
    assert configured(stubs, "H200_1x8")[0].learning_rate.base == 1.5


def test_a_series_in_docker(stubs: Stubs) -> None:
    done = docker_series(stubs, NEXP="3", SEEDS="5 6 7")
    assert done.returncode == 0, done.stderr
    calls = [call["words"] for call in stubs.calls("docker")]
    started = next(words for words in calls if words[0] == "run")
    assert "--gpus" in started
    assert f"{stubs.environment['DATADIR']}:/data:ro" in started
    assert calls[-1][:2] == ["rm", "--force"]
    # Legal? before all, then for each seed a run and the checker.
    kinds = [words[-1] if "./run_and_time.sh" in words else "checker" for words in calls if "exec" in words]
    assert kinds[1:7] == ["5", "checker", "6", "checker", "7", "checker"]
    (check,) = [words for words in calls if "check" in words]
    assert check[-4:] == ["check", "5", "6", "7"]
    runs = [words for words in calls if "./run_and_time.sh" in words and "check" not in words]
    for i, words in enumerate(runs):
        assert f"LOG_DIR=/results/run_{i}" in words
        assert "MLPERF_CONTAINER=sha256:" + "2" * 64 in words
        assert "BATCH_SIZE=7" in words
        assert "MLPERF_STAMP=/results/preflight.json" in words
        assert {"CACHES_CLEARED=yes", "CACHES_CLEARED=refused"} & set(words)
        assert (stubs.logdir / f"result_{i}.txt").read_text() == stub_commands_log(5 + i)
        assert f"run of seed {5 + i}" in (stubs.logdir / f"run_{i}" / "output.txt").read_text()


def stub_commands_log(seed: int) -> str:
    return stub_commands.LOG % seed


def test_a_series_goes_on_with_what_is_missing(stubs: Stubs) -> None:
    (stubs.folder / "fail").write_text("6")
    done = docker_series(stubs, NEXP="3", SEEDS="5 6 7")
    assert done.returncode == 1
    assert "run 1: FAILED with status 4" in done.stderr
    assert sorted(path.name for path in stubs.logdir.glob("result_*")) == ["result_0.txt", "result_2.txt"]
    (stubs.folder / "fail").unlink()
    (stubs.folder / "calls.jsonl").unlink()
    kept = (stubs.logdir / "result_0.txt").stat().st_mtime_ns
    done = docker_series(stubs, NEXP="3", SEEDS="5 6 7")
    assert done.returncode == 0, done.stderr
    # Nor is it asked about what has a result: preflight would find its seed used.
    asked = [words[-2:] for words in exec_words(stubs, "./run_and_time.sh")]
    assert asked == [*([["check", "6"]] if DROPPING else []), ["./run_and_time.sh", "6"]]
    assert (stubs.logdir / "result_0.txt").stat().st_mtime_ns == kept
    assert len(list(stubs.logdir.glob("ended_run_1.*"))) == 1


def test_a_run_that_diverged_is_a_result_and_no_other_takes_its_place(stubs: Stubs) -> None:
    (stubs.folder / "diverge").touch()
    done = docker_series(stubs, NEXP="1", SEEDS="5")
    assert done.returncode == 0, done.stderr
    assert (stubs.logdir / "result_0.txt").exists()


def test_one_series_at_a_time(stubs: Stubs) -> None:
    (stubs.folder / "slow").touch()
    first = stubs.start(LAUNCH / "run_with_docker.sh", "cpu_phantom", NEXP="1", SEEDS="5")
    wait_for_a_run(stubs)
    second = docker_series(stubs, NEXP="1", SEEDS="6")
    assert second.returncode == 1
    assert "another series of runs is writing to LOGDIR" in second.stderr
    (stubs.folder / "ended").touch()
    first.communicate(timeout=30)


def test_a_closed_series_wants_caches_to_be_dropped(stubs: Stubs) -> None:
    done = docker_series(stubs, NEXP="1", SEEDS="5", MLPERF_DIVISION="closed", CLEAR_CACHES="0")
    assert done.returncode == 1
    assert "caches cannot be dropped, and the closed division wants that" in done.stderr
    assert list(stubs.logdir.glob("result_*")) == []


def test_seeds_are_drawn_apart_from_those_of_results(stubs: Stubs) -> None:
    assert docker_series(stubs, NEXP="2").returncode == 0
    assert docker_series(stubs, NEXP="4").returncode == 0
    seeds = [json.loads(path.read_text()[9:])["value"] for path in stubs.logdir.glob("result_*.txt")]
    assert len(set(seeds)) == 4


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SEEDS": "5 6 5", "NEXP": "3"}, "SEEDS has 5 twice"),
        ({"SEEDS": "5 6", "NEXP": "3"}, "SEEDS has 2 seeds for NEXP=3 runs"),
        ({"SEEDS": "5 x", "NEXP": "2"}, "SEEDS: x is no whole number"),
        ({"NEXP": "some"}, "NEXP=some is no number of runs"),
        ({"CONT": ""}, "CONT is not set"),
        ({"CONT": "unknown"}, "docker has no image unknown"),
        ({"DATADIR": "/nowhere"}, "DATADIR /nowhere does not exist"),
        ({"LOGDIR": "/proc/results"}, "LOGDIR /proc/results cannot be made"),
        ({"NNODES": "9"}, "is for 9 machines"),
    ],
)
def test_wrong_settings_are_one_sentence(stubs: Stubs, variables: dict[str, str], sentence: str) -> None:
    done = docker_series(stubs, **variables)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("run_with_docker.sh: error: ")
    assert sentence in line
    assert exec_words(stubs, "exec") == []


def wait_for_a_run(stubs: Stubs) -> None:
    deadline = time.monotonic() + 30
    while not any("check" not in words for words in exec_words(stubs, "./run_and_time.sh")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_the_series_and_its_container(
    stubs: Stubs, number: signal.Signals, status: int
) -> None:
    (stubs.folder / "slow").touch()
    series = stubs.start(LAUNCH / "run_with_docker.sh", "cpu_phantom", NEXP="3", SEEDS="5 6 7")
    wait_for_a_run(stubs)
    series.send_signal(number)
    out, _ = series.communicate(timeout=30)
    assert series.returncode == status
    assert "0 of 3 runs have a result" in out
    assert exec_words(stubs, "pkill")
    assert len(exec_words(stubs, "./run_and_time.sh")) == 1
    assert "rm" in {call["words"][0] for call in stubs.calls("docker")}
    assert list(stubs.logdir.glob("result_*")) == []
    (started,) = exec_words(stubs, "run")
    assert "--gpus" not in started


def test_a_job_asks_for_what_its_configuration_needs(stubs: Stubs) -> None:
    done = stubs.run(LAUNCH / "submit.sh", "H200_9x8", "--partition=big", NEXP="10")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["--nodes=9", "--time=200", "--partition=big", "launch/run.sub"]
    done = stubs.run(LAUNCH / "submit.sh", "nothing")
    assert done.returncode == 1
    assert "nothing is no file and no configuration" in done.stderr


def test_a_slurm_job(stubs: Stubs) -> None:
    job = {
        "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "9", "SLURM_JOB_NODELIST": "host[1-9]",
        "CONFIG": "H100_9x8",
        "SLURM_SUBMIT_DIR": str(ROOT), "MLPERF_CONTAINER": "sha256:" + "3" * 64, "CLEAR_CACHES": "1",
    }  # fmt: skip
    done = stubs.run(LAUNCH / "run.sub", NEXP="2", SEEDS="5 6", **job)
    assert done.returncode == 0, done.stderr
    calls = stubs.calls("srun")
    text = [" ".join(call["words"]) for call in calls]
    kinds = [
        "legal" if "check" in call["words"] else "clear" if "drop_caches" in one
        else "run" if "SLURM_NODEID" in one else "checker" if "compliance_checker" in one else "image"
        for call, one in zip(calls, text, strict=True)
    ]  # fmt: skip
    series = ["clear", "run", "checker", "clear", "run", "checker"]
    assert kinds == ["image", "legal", *series]
    for i, call in enumerate(call for call, kind in zip(calls, kinds, strict=True) if kind == "run"):
        assert {"--nodes=9", "--ntasks=9", "--ntasks-per-node=1"} <= set(call["words"])
        assert call["environment"] == {
            "LOG_DIR": f"/results/run_{i}", "CACHES_CLEARED": "yes", "MASTER_ADDR": "first-host",
            "NNODES": "9",
        }  # fmt: skip
    assert len(list(stubs.logdir.glob("result_*.txt"))) == 2
    done = stubs.run(LAUNCH / "run.sub", **(job | {"SLURM_JOB_NUM_NODES": "2"}))
    assert done.returncode == 1
    assert "the job has 2 machines, H100_9x8 is for 9" in done.stderr


def bound(stubs: Stubs, rank: int, ranks: int) -> str:
    done = stubs.run(
        LAUNCH / "bind.sh", "true", LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(ranks),
        BIND_SYSFS=str(stubs.folder / "sys"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def two_sockets(stubs: Stubs) -> None:
    """8 GPUs and 2 nodes of 16 cores with two threads each: 0-15 and 32-47, 16-31 and 48-63."""
    system = stubs.folder / "sys"
    for node, cores in ((0, "0-15,32-47"), (1, "16-31,48-63")):
        folder = system / f"devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cores + "\n")
    for cpu in range(64):
        folder = system / f"devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 32},{cpu % 32 + 32}\n")
    lines = []
    for gpu in range(8):
        folder = system / f"bus/pci/devices/0000:{gpu + 24:02x}:00.0"
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{gpu // 4}\n")
        lines.append(f"GPU-{gpu:04d}-5a, 00000000:{gpu + 24:02X}:00.0\n")
    (stubs.folder / "gpus").write_text("".join(lines))


def test_ranks_are_bound_near_their_gpus(stubs: Stubs) -> None:
    two_sockets(stubs)
    assert bound(stubs, 0, 8) == "bind: local rank 0 on cores 0,1,2,3,32,33,34,35, NUMA node 0"
    assert bound(stubs, 3, 8) == "bind: local rank 3 on cores 12,13,14,15,44,45,46,47, NUMA node 0"
    assert bound(stubs, 4, 8) == "bind: local rank 4 on cores 16,17,18,19,48,49,50,51, NUMA node 1"
    assert {call["words"][0] for call in stubs.calls("numactl")} == {"--membind=0", "--membind=1"}
    # One GPU of eight has its node to itself; a control group's cores are never left.
    assert bound(stubs, 0, 1).startswith(
        "bind: local rank 0 on cores 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,32"
    )
    stubs.environment["CUDA_VISIBLE_DEVICES"] = "GPU-0005,6"
    assert bound(stubs, 0, 2).endswith("NUMA node 1")
    stubs.environment["CUDA_VISIBLE_DEVICES"] = "MIG-1"
    assert "NUMA" not in bound(stubs, 0, 2)
    del stubs.environment["CUDA_VISIBLE_DEVICES"]
    (stubs.folder / "cores").write_text("0-3,16-17")
    assert bound(stubs, 1, 4) == "bind: local rank 1 on cores 1, NUMA node 0"
    assert bound(stubs, 7, 8) == "bind: local rank 7 is left unbound: 2 cores for 4 ranks"


def test_ranks_without_a_gpu_share_all_cores(stubs: Stubs) -> None:
    (stubs.folder / "cores").write_text("0,2-4")
    assert bound(stubs, 0, 2) == "bind: local rank 0 on cores 0,2"
    assert bound(stubs, 1, 2) == "bind: local rank 1 on cores 3,4"
    assert bound(stubs, 0, 1) == ""
    assert stubs.calls("numactl") == []
