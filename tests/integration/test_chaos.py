"""Ten faults at random moments of small runs, of which ``make chaos`` has more; and a short soak."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from benchmark.record import read_record
from tests.integration.conftest import ROOT, processes_naming, python

SEED = 3085
"""Its first ten faults are of ten kinds, and need three configurations, which is least work."""


@pytest.mark.slow
def test_ten_faults_of_ten_kinds_are_survived(tmp_path: Path) -> None:
    done = python(
        "-m", "benchmark", "chaos", "--faults", 10, "--seed", SEED, "--parallel", 2, "--out", tmp_path,
        timeout=400,
    )  # fmt: skip
    results = read_record(tmp_path).results
    assert len({cycle["fault"] for cycle in results["cycles"]}) == 10
    *_, total = results["table"]
    assert [total[name] for name in ("hangs", "wrong results", "lost checkpoints")] == ["0"] * 3, done.stdout
    assert (total["tried"], total["survived"], done.returncode) == ("10", "10", 0), done.stdout
    assert "10 survived" in (tmp_path / "notes.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_interrupted_campaign_leaves_nothing_but_its_record(tmp_path: Path) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "benchmark", "chaos", "--seed", str(SEED), "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        # Jobs of a shell in the background ignore it, and so do their children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as campaign:
        deadline = time.monotonic() + 60
        while not list(temporary.glob("chaos-*/cycle-*/disturbed.trace.0")) and time.monotonic() < deadline:
            time.sleep(0.05)
        campaign.send_signal(signal.SIGINT)
        printed, complained = campaign.communicate(timeout=60)
    assert campaign.returncode == 128 + signal.SIGINT, complained
    assert complained == "python -m benchmark chaos: interrupted\n"
    assert "0 faults" in printed
    assert not read_record(tmp_path / "out").results["complete"]
    assert processes_naming(str(temporary)) == []
    assert list(temporary.iterdir()) == []
    assert str(temporary) not in Path("/proc/mounts").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_short_soak_looks_at_both_loaders(tmp_path: Path) -> None:
    python("-m", "benchmark", "soak", "--minutes", 0.1, "--steps", 60, "--every", 0.2, "--out", tmp_path)
    soaks = read_record(tmp_path).results["soaks"]
    assert [soak["loader"] for soak in soaks] == ["pytorch", "dali"]
    for soak in soaks:
        assert soak["status"] == 143
        assert not [line for line in soak["wrong"] if line.startswith("left behind")]
        assert soak["series"]["steps"][-1] >= 30
        assert min(soak["series"]["memory_bytes"][5:]) > 50e6
    assert "per 1,000 steps" in (tmp_path / "notes.md").read_text(encoding="utf-8")
