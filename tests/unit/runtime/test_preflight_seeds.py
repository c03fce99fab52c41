"""Seeds of a series, against each other and against the logs that are there."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import RunError
from runtime.logging import RunLog
from runtime.preflight.seeds import logged_seeds, seed_findings
from tests.unit.runtime.preflight_cases import legal_config, of_rule, off


def write_log(path: Path, seed: object) -> None:
    log = RunLog(path)
    log.start("init_start")
    log.event("seed", seed)
    log.run_stop("success")


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=6))
def test_only_the_systems_entropy_may_be_asked_twice(seeds: list[int]) -> None:
    own = [seed for seed in seeds if seed != -1]
    expected = [] if len(set(own)) == len(own) else ["seeds"]
    assert off(seed_findings(legal_config(), seeds)) == expected


@pytest.mark.parametrize("place", ["result_0.txt", "run_1/unet3d.log"])
@pytest.mark.parametrize("log_dir", [".", "run_2"])
def test_a_seed_of_another_run_of_the_series_is_named(tmp_path: Path, place: str, log_dir: str) -> None:
    write_log(tmp_path / place, 7)
    config = legal_config(tmp_path / log_dir)
    found = of_rule(seed_findings(config, (6, 7)), "seeds of other runs")
    assert (found.found, off([found])) == (f"7 in {place}", ["seeds of other runs"])
    assert off(seed_findings(config, (6, 8, -1))) == []


def test_the_log_that_the_run_replaces_does_not_count(tmp_path: Path) -> None:
    write_log(tmp_path / "run_2" / "unet3d.log", 7)
    assert off(seed_findings(legal_config(tmp_path / "run_2"), (7,))) == []
    assert off(seed_findings(legal_config(tmp_path / "run_3"), (7,))) == ["seeds of other runs"]


def test_a_log_that_was_cut_before_its_seed_has_none(tmp_path: Path) -> None:
    path = tmp_path / "result_0.txt"
    write_log(path, 7)
    whole = path.read_bytes()
    for length in range(0, whole.index(b'"seed"'), 7):
        path.write_bytes(whole[:length])
        assert logged_seeds(path) == set()


@pytest.mark.parametrize(
    "line",
    [
        ':::MLLOG {"key": "seed", "value": 3',
        ':::MLLOG {"key": "seed", "value": "three"}',
        ':::MLLOG {"key": "seed", "value": null}',
        ':::MLLOG {"kay": "seed"}',
        ':::MLLOG ["seed"]',
    ],
)
def test_a_seed_that_nobody_can_read_is_off(tmp_path: Path, line: str) -> None:
    (tmp_path / "result_0.txt").write_text(f"noise\n{line}\n")
    found = of_rule(seed_findings(legal_config(tmp_path), (5,)), "seeds of other runs")
    assert off([found]) == ["seeds of other runs"]
    assert "result_0.txt has a damaged line with a seed" in found.found


def test_an_unreadable_log_is_off(tmp_path: Path) -> None:
    (tmp_path / "result_0.txt").mkdir()
    assert off(seed_findings(legal_config(tmp_path), (5,))) == ["seeds of other runs"]
    with pytest.raises(RunError, match="cannot be read"):
        logged_seeds(tmp_path / "result_0.txt")


@given(
    seed=st.integers(0, 2**63 - 1),
    prefix=st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters=":"), max_size=9),
)
def test_seeds_are_read_as_int_would(
    seed: int, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    for value in (seed, str(seed)):
        path.write_text(f"{prefix}:::MLLOG {json.dumps({'key': 'seed', 'value': value})}\n")
        assert logged_seeds(path) == {seed}
