"""How contenders take turns, and what becomes of one that fails."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.peers import comparison, fresh
from benchmark.peers.comparison import compare
from benchmark.peers.contender import Settings
from benchmark.peers.contenders import CONTENDERS
from benchmark.residency import ResidencyError

NAMES = ["pytorch", "dali-classic", "monai"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Settings]]:
    """What was asked of processes, none of which is started; ``monai`` is said to be there."""
    made: list[tuple[str, str, Settings]] = []

    def run(task: str, name: str, settings: Settings, tree: object = None) -> dict[str, Any]:
        made.append((task, name, settings))
        if task == "one_pass":
            # One of the five cases does not fill a batch.
            assert len(settings.cases()) == 4
            return {"images": 4, "asked_bytes": 1000}
        return {"images_per_s": float(len(made)), "first_batch_s": 0.5}

    monkeypatch.setattr(fresh, "run", run)
    for name in NAMES:
        monkeypatch.setattr(type(CONTENDERS[name]), "missing", lambda self, settings: None)
    return made


@pytest.mark.usefixtures("on_disk")
def test_turns_alternate_and_cold_reads_take_whole_batches(
    settings: Settings, calls: list[tuple[str, str, Settings]]
) -> None:
    outcomes = compare(NAMES, settings, 3)
    rates = [name for task, name, _ in calls if task == "rate"]
    assert rates == [*NAMES, *NAMES, *NAMES[::-1], *NAMES]
    assert [len(outcomes[name].images_per_s) for name in NAMES] == [3, 3, 3]
    cold = [(name, s.oversampling, s.one_pass) for task, name, s in calls if task == "one_pass"]
    assert cold == [
        ("pytorch", 0.0, True),
        ("pytorch", 0.4, True),
        ("dali-classic", 0.4, True),
        ("monai", 0.4, True),
    ]
    assert outcomes["pytorch"].cold[0.0].asked_bytes_per_image == 250


def test_one_that_fails_is_left_out_of_what_follows(
    settings: Settings, calls: list[tuple[str, str, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fresh.run

    def fail(task: str, name: str, settings: Settings, tree: Any = None) -> dict[str, Any]:
        result = run(task, name, settings, tree)
        if name == "monai" and len([1 for t, n, _ in calls if n == "monai"]) == 2:
            raise fresh.ContenderError("RuntimeError: out of paint")
        return result

    monkeypatch.setattr(fresh, "run", fail)
    outcomes = compare(NAMES, settings, 2)
    assert outcomes["monai"].problem == "failed: RuntimeError: out of paint"
    assert [(t, n) for t, n, _ in calls if n == "monai"] == [("rate", "monai")] * 2
    assert len(outcomes["pytorch"].images_per_s) == 2


def test_a_page_cache_that_cannot_be_emptied_costs_the_cold_reads_alone(
    settings: Settings, calls: list[tuple[str, str, Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(paths: object) -> None:
        raise ResidencyError("it stays")

    monkeypatch.setattr(comparison, "drop", refuse)
    outcomes = compare(["dali-classic"], settings, 1)
    assert outcomes["dali-classic"].notes == ["cold reads: it stays"]
    assert outcomes["dali-classic"].problem is None
    assert not outcomes["dali-classic"].cold


def test_nothing_is_left_of_a_process_and_its_end_is_explained(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, left = tmp_path / "python", tmp_path / "left"
    monkeypatch.setattr(fresh.sys, "executable", str(script))

    def fails_with(body: str) -> str:
        script.write_text(f"#!/bin/sh\nsleep 100 & echo $! > {left}\n{body}\n")
        script.chmod(0o755)
        with pytest.raises(fresh.ContenderError) as caught:
            fresh.run("rate", "pytorch", settings)
        status = Path(f"/proc/{left.read_text().strip()}/stat")
        assert not status.exists() or status.read_text().split()[2] in "ZX"
        return str(caught.value)

    assert fails_with("echo oops; kill -9 $$") == (
        "killed by SIGKILL, most often for lack of memory; the last that it printed: oops"
    )
    assert fails_with("echo oops; kill -6 $$") == "killed by SIGABRT; the last that it printed: oops"
    assert fails_with("exit 3") == "ended with status 3: it printed nothing"
    monkeypatch.setattr(fresh, "START_LIMIT_S", 0.2)
    assert fails_with("sleep 100") == "did not end within 0 s"


def test_a_failure_of_the_contender_is_one_line(settings: Settings) -> None:
    with pytest.raises(fresh.ContenderError, match="^NotImplementedError$"):
        fresh.run("prepare", "pytorch", settings)
    with pytest.raises(fresh.ContenderError, match=r"^CaseError: .*a patch of .* does not fit[^\n]*$"):
        fresh.run("rate", "pytorch", replace(settings, patch=100))
