"""Stand-ins for docker, srun and others: they write down how they were called, and do what a test needs.

Installed under the names of the commands. ``STUB_FOLDER`` has ``calls.jsonl``, a line for each call, and may
have ``fail``, a file with the seeds whose runs fail. A run leaves a log, as the real one does.
"""

import json
import os
import sys
import time
from pathlib import Path

COMMANDS = ("docker", "srun", "scontrol", "sbatch", "sudo", "nvidia-smi", "taskset", "numactl", "stub-python")
FOLDER = Path(os.environ.get("STUB_FOLDER", ""))
LOG = (
    ':::MLLOG {"namespace": "", "time_ms": 1, "event_type": "POINT_IN_TIME", "key": "seed", "value": %s, '
    '"metadata": {"file": "a.py", "lineno": 1}}\n'
)


def run(seed: str, log_dir: str) -> int:
    """One run of run_and_time.sh in a container, where LOGDIR is /results."""
    print(f"run of seed {seed} into {log_dir}", flush=True)
    if (FOLDER / "slow").exists():
        for _ in range(600):
            if (FOLDER / "ended").exists():
                return 143
            time.sleep(0.05)
    if (FOLDER / "fail").exists() and seed in (FOLDER / "fail").read_text().split():
        return 4
    folder = Path(os.environ["HOST_LOGDIR"]) / Path(log_dir).relative_to("/results")
    (folder / "unet3d.log").write_text(LOG % seed)
    return 3 if (FOLDER / "diverge").exists() else 0


def docker(words: list[str]) -> int:
    if words[:2] == ["image", "inspect"]:
        if words[-1] == "unknown":
            return 1
        print("sha256:" + "1" * 64 if "RepoDigests" not in words[3] else "me/unet3d@sha256:" + "2" * 64)
    if words[0] == "exec" and "./run_and_time.sh" in words:
        at = words.index("./run_and_time.sh")
        log_dir = [word for word in words if word.startswith("LOG_DIR=")][-1]
        if words[at + 1] != "check":
            return run(words[at + 1], log_dir.removeprefix("LOG_DIR="))
    if words[0] == "exec" and "pkill" in words:
        (FOLDER / "ended").touch()
    return 0


def srun(words: list[str]) -> int:
    if any("run_and_time.sh" in word for word in words) and "check" not in words:
        return run(words[-1], os.environ["LOG_DIR"])
    return 0


def main() -> int:
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    environment = {key: os.environ.get(key) for key in ("LOG_DIR", "CACHES_CLEARED", "MASTER_ADDR", "NNODES")}
    with (FOLDER / "calls.jsonl").open("a") as file:
        file.write(json.dumps({"name": name, "words": words, "environment": environment}) + "\n")
    if name == "docker":
        return docker(words)
    if name == "srun":
        return srun(words)
    if name == "scontrol":
        print("first-host\nsecond-host")
    if name == "sbatch":
        print(json.dumps(words))
    if name == "nvidia-smi":
        print((FOLDER / "gpus").read_text(), end="")
    if name == "taskset" and words[0] == "-pc":
        print(f"pid 1's current affinity list: {(FOLDER / 'cores').read_text()}")
    elif name == "taskset":
        os.execvp(words[2], words[2:])
    if name == "numactl":
        os.execvp(words[1], words[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
