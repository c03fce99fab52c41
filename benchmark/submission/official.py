"""The official checkers, each in a process and a folder of its own.

mlperf_logging is only started here, never imported.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from benchmark.submission import answers
from benchmark.submission.answers import Answer, Verdict
from benchmark.submission.layout import Layout
from runtime.errors import RunError

REPO_CHECKER_FROM = (2, 0, 0)
"""The first ruleset that repo_checker takes."""


def ask(tool: str, *arguments: object) -> Answer:
    """Run ``python -m mlperf_logging.TOOL`` in an empty folder.

    Raises:
        RunError: mlperf_logging is not installed.
    """
    if find_spec("mlperf_logging") is None:
        raise RunError(
            "the official checkers come with mlperf_logging, which is missing: pip install mlperf-logging"
        )
    command = ("python", "-m", f"mlperf_logging.{tool}", *map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=folder,
            # Their messages print sets, in an order that hashes decide.
            env=os.environ | {"PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        tables = {
            path.name: path.read_text() for path in Path(folder).iterdir() if path.suffix in (".csv", ".json")
        }
    return Answer(command, done.returncode, done.stdout, tables)


def judge(root: Path, layouts: Sequence[Layout], ruleset: str) -> list[Verdict]:
    """All checkers on the package ``root`` with the systems ``layouts``.

    package_checker writes or removes scaling.json beside the logs.

    Raises:
        RunError: mlperf_logging is not installed.
    """
    root = root.resolve()
    logs = [log.resolve() for layout in layouts for log in layout.logs()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def start(tool: str, *arguments: object) -> Callable[[], Answer]:
            return pool.submit(ask, tool, *arguments).result

        package = start("package_checker", root, "training", ruleset)
        rcps = [
            start("rcp_checker", "--rcp_version", ruleset, layout.results.resolve()) for layout in layouts
        ]
        systems = [
            start("system_desc_checker", layout.description.resolve(), "training", ruleset)
            for layout in layouts
        ]
        repository = None
        if tuple(map(int, ruleset.split("."))) >= REPO_CHECKER_FROM:
            repository = start("repo_checker", root, "training", ruleset)
        compliance = [start("compliance_checker", "--ruleset", ruleset, log) for log in logs]
        # A log's name, with the system's where there are several.
        names = [log.name if len(layouts) == 1 else str(log.relative_to(root / "results")) for log in logs]
        found = {name: answer() for name, answer in zip(names, compliance, strict=True)}
        verdicts = [
            answers.compliance(found, len(layouts)),
            *_each("system_desc_checker", "System description checker passed", layouts, systems),
            *answers.package(package(), len(layouts)),
            *_each("rcp_checker", "RCP test PASSED", layouts, rcps),
            *([answers.plain("repo_checker", repository(), "ALL CHECKS PASSED")] if repository else []),
        ]
    # It multiplies by what package_checker has written.
    table = ask("result_summarizer", root, "training", ruleset, "--csv", "summary.csv")
    verdicts.append(answers.summary(table, len(layouts)))
    return [_without(f"{root}/", verdict) for verdict in verdicts]


def _without(prefix: str, verdict: Verdict) -> Verdict:
    """The paths in what is told made relative to the package."""
    objections = tuple(objection.replace(prefix, "") for objection in verdict.objections)
    return replace(verdict, says=verdict.says.replace(prefix, ""), objections=objections)


def _each(
    tool: str, success: str, layouts: Sequence[Layout], results: Sequence[Callable[[], Answer]]
) -> list[Verdict]:
    """A verdict for each system, which is named where there are several."""
    names = [tool if len(layouts) == 1 else f"{tool} {layout.system}" for layout in layouts]
    return [answers.plain(name, answer(), success) for name, answer in zip(names, results, strict=True)]
