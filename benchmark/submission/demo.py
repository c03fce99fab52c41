"""The whole way in miniature: 210 phantom cases, preflight, three runs, a package, the official checkers.

What is wrong with a miniature is known beforehand: no closed settings, no KiTS19, no convergence, three runs
in place of forty. The demo holds only where exactly that is objected to, by us and by the official checkers.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.environment import ROOT
from benchmark.record import Record, write_record
from benchmark.submission.system import FIELDS, MAY_BE_EMPTY
from benchmark.submission.template import template
from pipelines.errors import DataError

CONFIG = "cpu_phantom"
RUNS = 3

SMALL = {"FILTERS": "4 8 16", "INPUT_SHAPE": "32 32 32", "VAL_INPUT_SHAPE": "32 32 32"}
"""Settings for volumes of 32^3 voxels, which are written without preprocessing."""

OFF = {"training shape", "channels", "container", "evaluations", "last epoch", "labels", "origin"}
"""Rules of preflight that a phantom under the configuration breaks."""


def demo(work: Path, *, small: bool) -> int:
    """Go the way in the empty or new folder ``work``: 0 where everything is as expected, 1 elsewhere.

    Args:
        work: Where everything is written.
        small: A data set and a network for a test of a minute.

    Raises:
        DataError: ``work`` is not empty, or a step ended in another way than it should.
        OSError: Something cannot be written.
    """
    if work.exists() and any(work.iterdir()):
        raise DataError(f"{work} is not empty: name a new folder, or remove what an earlier demo left there")
    data, results, package = work / "data", work / "results", work / "package"
    work.mkdir(parents=True, exist_ok=True)
    _say(1, "data: 210 phantom cases, with the ids of KiTS19")
    _make_data(work, data, small=small)
    environment = {
        "PYTHON": sys.executable, "DATASET_DIR": data, "DATADIR": data, "LOG_DIR": results, "LOGDIR": results,
        "NEXP": RUNS, "COLUMNS": 160, **(SMALL if small else {}),
    }  # fmt: skip
    _say(2, "preflight: would that be a legal closed run?")
    differences = _preflight(environment)
    _say(3, f"runs: {RUNS} seeds by run_bare.sh, which drops caches and asks the compliance checker")
    _run([ROOT / "launch/run_bare.sh", CONFIG], environment)
    _say(4, "status of the series")
    _run([sys.executable, "-m", "benchmark", "submission", "status", results], {})
    _say(5, "package, and the official checkers")
    _package(work, results, package)
    verdicts = json.loads((work / "package.checks/verdicts.json").read_text())
    differences += compared(verdicts, small=small)
    record = Record(
        suite="mlperf-demo",
        command=["python", "-m", "benchmark", *sys.argv[1:]],
        results={"runs": RUNS, "small": small, "not_as_expected": differences, "verdicts": verdicts},
    )
    write_record(record, work / "record.json")
    _say(6, "was that what it should have been?")
    for difference in differences:
        print(f"NOT AS EXPECTED: {difference}")
    if not differences:
        print(
            "as expected: nothing was objected to but the settings, the phantom data, the score and the "
            f"number of runs; {package} and what the checkers say of it, {work / 'package.checks'}"
        )
    return 1 if differences else 0


def _make_data(work: Path, data: Path, *, small: bool) -> None:
    python = [sys.executable, "-m", "preprocess.phantom", "--cases", 210]
    if small:
        _run([*python, "--preprocessed", "--shape", 32, 32, 32, "--out", data], {}, quiet=True)
        return
    raw = work / "raw"
    _run([*python, "--seed", 1, "--profile", "tiny", "--out", raw], {}, quiet=True)
    preprocess = [sys.executable, ROOT / "preprocess_dataset.py", "--data_dir", raw, "--results_dir", data]
    _run(preprocess, {}, quiet=True)


def _preflight(environment: dict[str, Any]) -> list[str]:
    """What is different from what preflight should say of the runs."""
    script = 'source launch/read_config.sh; read_config "$1"; exec ./run_and_time.sh check 1 2 3'
    command = ["bash", "-euc", script, "bash", CONFIG]
    text = _run(command, environment | {"MLPERF_DIVISION": "closed"}, status=1)
    expected = OFF | ({"evaluation shape"} if "VAL_INPUT_SHAPE" in environment else set())
    return _different("preflight", set(re.findall(r"^(.+) \(off\): ", text, re.MULTILINE)), expected)


def _package(work: Path, results: Path, package: Path) -> None:
    system = work / f"{CONFIG}.json"
    fields = template() | {
        "submitter": "voxelrate",
        "status": "Research, Development, or Internal (RDI)",
        "system_name": "CPU with phantom data",
    }
    for name in FIELDS:
        if not fields[name] and name not in MAY_BE_EMPTY:
            fields[name] = "N/A"
    system.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "benchmark", "submission", "build", "--rehearsal", "--org", "voxelrate"]
    _run([*command, "--system", system, "--results", results, "--out", package], {})


def compared(verdicts: dict[str, Any], *, small: bool) -> list[str]:
    """What is different from what should be objected to, in the verdicts.json of a demo's package."""
    dropped = os.access("/proc/sys/vm/drop_caches", os.W_OK)
    ours = {
        f"closed rules: training_input_shape is {[32] * 3 if small else [64] * 3}, expected [128, 128, 128]",
        "closed rules: evaluates first after epoch 1, expected 1000 = CEIL(1000*168/168)",
        f"count: {RUNS} logs, expected 40",
    }
    if small:
        ours.add("closed rules: validation_input_shape is [32, 32, 32], expected [128, 128, 128]")
    cleared = set() if dropped else {"Required AT_LEAST_ONE occurrence of 'cache_clear' but found 0"}
    failing = {"package_checker", "rcp_checker", "result_summarizer"}
    failing |= set() if dropped else {"compliance_checker"}
    tools = verdicts["tools"]
    rules = {f"{one['rule']}: {one['found']}" for one in verdicts["objections"]}
    if not dropped:
        rules = {rule for rule in rules if not rule.startswith("cache clear: ")}
    complaints = {one.partition(": ")[2] for one in tools["compliance_checker"]["objections"]}
    return [
        *_different("our objections", rules, ours),
        *_different("failing checkers", {name for name, one in tools.items() if not one["passed"]}, failing),
        *_different("compliance_checker", complaints, {"eval_accuracy: v['value'] >= 0.908"} | cleared),
        *_different("package_checker", _kinds(tools["package_checker"]), {"Incorrect number", "RCP Test"}),
        *_different("rcp_checker", _kinds(tools["rcp_checker"]), {"Missing RCP,"}),
    ]


def _kinds(tool: dict[str, Any]) -> set[str]:
    """The first two words of each objection, which do not depend on places."""
    return {" ".join(objection.split()[:2]) for objection in tool["objections"]}


def _different(what: str, found: set[str], expected: set[str]) -> list[str]:
    return [
        *(f"{what}: {one}" for one in sorted(found - expected)),
        *(f"{what}: lacks {one}" for one in sorted(expected - found)),
    ]


def _say(number: int, text: str) -> None:
    print(f"== {number}/6 {text}", flush=True)


def _run(
    command: Iterable[object], environment: dict[str, Any], *, status: int = 0, quiet: bool = False
) -> str:
    """Run at the repository's root, and print and return all that it prints.

    Raises:
        DataError: It ended with another status.
    """
    words = [str(word) for word in command]
    variables = {name: str(value) for name, value in environment.items()}
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if not quiet:
                print(line, end="", flush=True)
    if process.returncode != status:
        raise DataError(
            f"{' '.join(words[:4])} ended with status {process.returncode}, expected {status}; its last "
            f"lines: {''.join(lines[-5:]).strip()}"
        )
    return "".join(lines)
