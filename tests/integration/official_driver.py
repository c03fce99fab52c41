"""The official checkers in one process that many logs are put to: their modules take seconds to import.

Reads questions in JSON from each line of its input, and answers with a line: who of those asked refuse. A
script, imported by no test.
"""

import json
import logging
import sys
import warnings
from collections.abc import Callable
from glob import glob
from typing import Any

from mlperf_logging.benchmark_meta import get_result_file_counts
from mlperf_logging.compliance_checker import mlp_compliance
from mlperf_logging.package_checker.seed_checker import SeedChecker
from mlperf_logging.rcp_checker import rcp_checker
from mlperf_logging.result_summarizer.result_summarizer import summarize_results
from mlperf_logging.system_desc_checker.system_desc_checker import check_system_desc

USAGE = "training"


def compliance(path: str, ruleset: str) -> bool:
    """Whether the compliance checker takes a log."""
    mlp_compliance.enqueued_configs.clear()
    checker = mlp_compliance.make_checker(USAGE, ruleset, False, False)
    return mlp_compliance.main(path, f"{USAGE}_{ruleset}/common.yaml", checker)[0]


def seeds(paths: list[str], ruleset: str) -> bool:
    """Whether the seed checker takes logs."""
    return SeedChecker(ruleset).check_seeds(paths)


def readable(path: str, ruleset: str) -> bool:
    """Whether rcp_checker can read a log."""
    rcp_checker.read_submission_file(path, ruleset, False)
    return True


def convergence(folder: str, ruleset: str) -> bool:
    """Whether rcp_checker takes the logs of a folder, as package_checker asks it."""
    return rcp_checker.check_directory(folder, USAGE, ruleset, False, False, rcp_pass="pruned_rcps")[0]


def count(folder: str) -> bool:
    """Whether a folder has as many logs as package_checker wants."""
    return len(glob(f"{folder}/result_*.txt")) == get_result_file_counts(USAGE)["unet3d"]


def system(path: str, ruleset: str) -> bool:
    """Whether the system checker takes a description."""
    return check_system_desc(path, USAGE, ruleset)[0]


def summary(package: str, ruleset: str) -> bool:
    """Whether the summarizer can make a row of a package."""
    return len(summarize_results(package, USAGE, ruleset)[0]) == 1


QUESTIONS: dict[str, Callable[..., bool]] = {
    "compliance": compliance, "seeds": seeds, "readable": readable, "convergence": convergence,
    "count": count, "system": system, "summary": summary,
}  # fmt: skip


def refuses(name: str, arguments: dict[str, Any]) -> bool:
    """Whether a checker says no, or crashes."""
    try:
        return not QUESTIONS[name](**arguments)
    except Exception:  # noqa: BLE001 - a crash of theirs is a refusal, whatever it is
        return True


def main() -> None:
    """Answer until there are no more questions."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        questions = json.loads(line)
        print(
            json.dumps([name for name, given in questions if refuses(name, given)]), file=answers, flush=True
        )


if __name__ == "__main__":
    main()
