"""The command line, run in this process."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from preprocess.cli import main


@dataclass(frozen=True)
class Result:
    """What one run of the command line did."""

    status: int
    out: str
    err: str


@pytest.fixture
def preprocess(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run ``preprocess_dataset.py`` with the given flags."""

    def run(*flags: object) -> Result:
        capsys.readouterr()
        try:
            status = main([str(flag) for flag in flags])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return Result(status, out, err)

    return run
