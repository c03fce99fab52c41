"""What a log says of the submission that its run is part of."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.arguments import RunConfig, parse_arguments
from runtime.distributed_utils import World
from runtime.errors import RunError
from runtime.logging import RunLog
from runtime.session import Session
from runtime.submission_log import MOST_INIT_SECONDS, check_init_time, log_submission

FLAGS = ("--data_dir", "/data", "--loader", "synthetic", "--filters", "2", "--seed", "7")


def logged(folder: Path, *flags: str) -> dict[str, Any]:
    session = Session.of(parse_arguments([*FLAGS, *flags]), World(torch.device("cpu")))
    log_submission(RunLog(folder / "a.log"), session)
    events = [json.loads(line[9:]) for line in (folder / "a.log").read_text().splitlines()]
    return {event["key"]: event["value"] for event in events}


def test_a_run_is_in_the_open_division_unless_asked_otherwise(tmp_path: Path) -> None:
    found = logged(tmp_path)
    assert found["submission_division"] == "open"
    assert found["submission_platform"] == "1xcpu"


def test_a_submission_is_described_by_its_flags(tmp_path: Path) -> None:
    found = logged(
        tmp_path, "--mlperf_division", "closed", "--mlperf_org", "Somebody", "--mlperf_status", "onprem",
        "--mlperf_platform", "8xH200",
    )  # fmt: skip
    assert found["submission_division"] == "closed"
    assert found["submission_org"] == "Somebody"
    assert found["submission_status"] == "onprem"
    assert found["submission_platform"] == "8xH200"
    assert found["seed"] == 7


@pytest.mark.parametrize("platform", ["", "8xH200"])
def test_a_closed_test_is_marked_as_one(tmp_path: Path, platform: str) -> None:
    found = logged(tmp_path, "--mlperf_division", "closed-test", "--mlperf_platform", platform)
    assert found["submission_division"] == "closed"
    assert found["submission_platform"] == f"TEST, not for submission: {platform or '1xcpu'}"


@pytest.mark.parametrize(
    "flags",
    [
        ("--mlperf_ruleset", "4.1.0"),
        ("--mlperf_division", "Closed"),
        ("--mlperf_status", "Available on-premise"),
        ("--mlperf_container", "latest"),
        ("--mlperf_org", " "),
        ("--eval_ranks", "1", "--benchmark"),
        ("--eval_ranks", "1", "--exec_mode", "evaluate"),
        ("--eval_ranks", "1", "--normalization", "syncbatchnorm"),
    ],
)
def test_wrong_flags_are_one_sentence(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_arguments([*FLAGS, *flags])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert flags[0] in line


def test_getting_ready_may_take_half_an_hour_in_the_closed_division() -> None:
    config = parse_arguments([*FLAGS, "--mlperf_division", "closed"])
    check_init_time(config, MOST_INIT_SECONDS)
    with pytest.raises(RunError, match="getting ready took 31 minutes"):
        check_init_time(config, MOST_INIT_SECONDS + 60)
    check_init_time(_open(config), MOST_INIT_SECONDS + 60)


def _open(config: RunConfig) -> RunConfig:
    return replace(config, mlperf=replace(config.mlperf, division="open"))
