"""Our reading of the reference convergence points beside the official checker's."""

import json
import subprocess
import sys
from typing import Any

import pytest

from runtime.errors import RunError
from runtime.mlperf_arguments import RULESETS
from runtime.rcp import bar, load_rcps, pruned, samples_to_converge

BATCHES = (1, 2, 14, 28, 32, 40, 56, 60, 64, 72, 80, 82, 84, 168)

OFFICIAL = """
import json, sys
from mlperf_logging.rcp_checker.rcp_checker import RCP_Checker

found = {}
for ruleset in sys.argv[1].split(","):
    checker = RCP_Checker("training", ruleset, "unet3d", False)
    plain = lambda record: [record["BS"], record["RCP Mean"], record["RCP Stdev"], record["Min Epochs"]]
    bars = {}
    for batch in map(int, sys.argv[2].split(",")):
        record = checker._find_rcp(batch, "pruned_rcps")
        low = checker._find_top_min_rcp(batch, "pruned_rcps")
        high = checker._find_bottom_max_rcp(batch, "pruned_rcps")
        kind = "found" if record else "interpolated" if low and high else "smallest" if high else "missing"
        if kind == "interpolated":
            record = checker._create_interp_rcp(batch, low, high)[1]
        elif kind == "smallest":
            record = checker._find_min_rcp("pruned_rcps")
        bars[batch] = [kind, *(plain(record) if record else [])]
    found[ruleset] = {
        "points": [plain(record) for record in checker.rcp_data.values()],
        "pruned": sorted(record["BS"] for record in checker.pruned_rcp_data.values()),
        "bars": bars,
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    arguments = [",".join(RULESETS), ",".join(map(str, BATCHES))]
    done = subprocess.run(
        [sys.executable, "-c", OFFICIAL, *arguments], capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("ruleset", RULESETS)
def test_points_and_bars_are_the_checkers(official: dict[str, Any], ruleset: str) -> None:
    theirs = official[ruleset]
    points = load_rcps(ruleset)
    for point, expected in zip(points, theirs["points"], strict=True):
        ours = [point.batch_size, point.mean, point.stdev, point.min_mean]
        assert ours == pytest.approx(expected, abs=1e-3)
    assert [point.batch_size for point in pruned(points)] == theirs["pruned"]
    for batch in BATCHES:
        kind, *expected = theirs["bars"][str(batch)]
        found = bar(ruleset, batch)
        assert found.kind == kind
        if expected:
            assert [found.batch_size, found.mean] == pytest.approx(expected[:2])
            assert found.min_mean == pytest.approx(expected[3], abs=1e-3)


def test_known_numbers() -> None:
    point = bar("4.0.0", 56)
    assert (point.kind, round(point.mean), round(point.min_mean)) == ("found", 357404, 334053)
    assert bar("4.0.0", 64).kind == "interpolated"
    assert bar("4.0.0", 85).kind == "missing"


def test_epochs_are_of_padded_samples() -> None:
    (point,) = (point for point in load_rcps("3.0.0") if point.batch_size == 80)
    assert samples_to_converge("3.0.0", point) == pytest.approx(point.mean * 240)
    (point,) = (point for point in load_rcps("4.0.0") if point.batch_size == 56)
    assert samples_to_converge("4.0.0", point) == point.mean


def test_an_unknown_ruleset_is_one_sentence() -> None:
    with pytest.raises(RunError, match="no reference convergence points for ruleset 9"):
        load_rcps("9.0.0")
